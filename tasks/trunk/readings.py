"""Readings: what the nights of a trunk have read, one after the other.

A night has learnt from its own data and from those of all nights before it, back to the origin of the chain.
"""

from collections.abc import Mapping, MutableMapping
from pathlib import Path

from tasks.trunk.chain import Trunk, trunks

Splits = frozenset[str] | None
"""The splits that contained certain conversations; None if this is unknown."""


def add_nights(
    home: Path, by_training: MutableMapping[str, Splits], by_model: Mapping[str, Splits]
) -> list[tuple[Trunk, Splits]]:
    """Add to what each night has read itself what the nights before it have read; return that of each trunk.

    Args:
        by_training: what each training run has read itself, by its fingerprint; it is changed.
        by_model: the same by the digest of the output of `train`, for the champions with which chains begin.
    """
    found: list[tuple[Trunk, Splits]] = []
    for trunk in trunks(home):
        chain, _ = trunk.read()
        known: Splits = frozenset() if chain.nights else None
        for night in chain.nights:
            if night.origin:
                known = by_model.get(night.model) if night.model else frozenset()
            else:
                known = _both(known, by_training.get(night.fingerprint))
                by_training[night.fingerprint] = known
        found.append((trunk, known))
    return found


def _both(one: Splits, other: Splits) -> Splits:
    """The splits of either; unknown if one of them is, unless the other one is certain to contain some."""
    if one is None or other is None:
        return one or other or None
    return one | other
