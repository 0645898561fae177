"""Trunks: whether the next night of each model line can go on where the last one ended."""

import shlex
from collections.abc import Iterator

from deployments.doctor.installation import Fault, Installation
from tasks.trunk import chain


def trunks(installation: Installation) -> Iterator[Fault]:
    """The files of each trunk are whole, so the nights go on from them."""
    for trunk in chain.trunks(installation.home):
        _, damage = trunk.state()
        if damage:
            yield Fault(
                f"{damage}; the next night begins again with the champion or with random weights",
                f"rm -r {shlex.quote(str(trunk.folder))}",
            )
