"""Evaluate: the stage that measures a model on the frozen test split."""

from models.evaluation.report import evaluate_model
from tasks.store.stage import Stage

evaluate = Stage("evaluate", evaluate_model, reads=("train", "clean", "export"), unit="replies")
