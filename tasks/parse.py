"""Parse: the stage that turns the raw files of a corpus into TURNS."""

from corpus.readers.parse import parse_corpus
from tasks.store.stage import Stage

parse = Stage("parse", parse_corpus, reads=("download",), unit="turns")
