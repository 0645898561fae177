"""Clean: the stage that normalises the turns of a corpus and assigns each conversation to a split."""

from corpus.cleaning.clean import clean_turns
from tasks.store.stage import Stage

clean = Stage("clean", clean_turns, reads=("parse",), unit="turns")
