"""Evaluate: the stage that scores the trained model on the test split."""

from models.evaluation.report import evaluate_model
from tasks.store.stage import Stage

evaluate = Stage("evaluate", evaluate_model, reads=("train", "clean", "export"), unit="replies")
