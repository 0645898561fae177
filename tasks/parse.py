"""Parse: the stage that converts the raw files of a corpus into a table of turns (with the schema TURNS)."""

from corpus.readers.parse import parse_corpus
from tasks.store.stage import Stage

parse = Stage("parse", parse_corpus, reads=("download",), unit="turns")
