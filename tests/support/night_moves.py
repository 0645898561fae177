"""Leaves the trunk of a night and moves the chain to it, in a process that can die at any change of a file.

python tests/support/night_moves.py HOME NUMBER     dies before change NUMBER; 0: prints how many there are
"""

import os
import signal
import sys
from pathlib import Path

from file_changes import watch

from models.training.trunk import files as trunk_files
from tasks.trunk.chain import SHAPE, Night, Trunk


def trunk_of(home: Path) -> Trunk:
    return Trunk.of(home, "line", dict.fromkeys(SHAPE, "x"))


def leave(home: Path, name: str) -> Path:
    """The trunk of a night in its run folder."""
    folder = home / "runs" / name
    (folder / "model").mkdir(parents=True)
    for path in (folder / "model" / "model.safetensors", folder / "optimizer.safetensors"):
        path.write_text(name)
    trunk_files.seal(folder)
    return folder


def move(home: Path, name: str, before: str) -> None:
    """As a run does: copy the trunk at the end of training, and replace the chain last."""
    trunk = trunk_of(home)
    nights = trunk.chain().nights
    if nights and nights[-1].folder == name:
        return
    trunk_files.copy(home / "runs" / name, trunk.path(name))
    files = trunk_files.digest_of(trunk.path(name))
    trunk.append(Night(at="now", digest=files, files=files, folder=name, parent_folder=before))


def main() -> None:
    home, dies_at = Path(sys.argv[1]), int(sys.argv[2])
    changes = 0

    def change() -> None:
        nonlocal changes
        changes += 1
        if changes == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(home, change)
    move(home, "third", "second")
    sys.stdout.write(str(changes))


if __name__ == "__main__":
    main()
