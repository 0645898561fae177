"""Export: the stage that turns conversations into EXAMPLES."""

from models.data.examples import export_examples
from tasks.store.stage import Stage

export = Stage("export", export_examples, reads=("clean", "vocabulary"), settings="markup", unit="examples")
