"""Export: the stage that converts conversations into tokenised examples (with the schema EXAMPLES)."""

from models.data.examples import export_examples
from tasks.store.stage import Stage

export = Stage("export", export_examples, reads=("clean", "vocabulary"), settings="markup", unit="examples")
