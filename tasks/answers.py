"""Answers: whether a champion whose weights a configuration makes also answers as that wants it."""

from pathlib import Path

from models.generation.config import GenerationConfig
from models.generation.generation_config import read_generation, to_transformers


def other_answers(champion: int, generation: GenerationConfig, folder: Path) -> str:
    """How the champion in the folder is to answer otherwise, or "" where it answers so."""
    served = read_generation(folder)
    if to_transformers(served) == to_transformers(generation):
        return ""
    changes = [
        f"generation.{key} is {value}, it was {getattr(served, key)}"
        for key, value in generation
        if value != getattr(served, key)
    ]
    return f"it is champion v{champion} itself, which is to answer otherwise: {', '.join(changes)}"
