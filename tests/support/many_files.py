"""A corpus of ten files in several formats, and the stage `parse` on some of them, with or without shards.

python tests/support/many_files.py DOWNLOAD HOME NUMBER
    parses a download with the shards of a home, and dies before change NUMBER; 0: prints how many there are
"""

import json
import os
import random
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from file_changes import watch
from parsed import download_of

from corpus.readers.parse import parse_corpus
from corpus.readers.parsing import ParseConfig
from tasks.store.shards import StoredShards

CONFIG = ParseConfig(max_reject_share=0.5)


def _exchanges(seed: int, count: int = 900) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    words = ["bread", "market", "oven", "seven", "today", "street", "river", "apple", "window", "letter"]
    return [
        (f"{' '.join(rng.choices(words, k=6))}?", f"{' '.join(rng.choices(words, k=5))} ü{i}.")
        for i in range(count)
    ]


def _json_lines(seed: int, system_in: int = -1, names: str = "id") -> str:
    lines = []
    for i, (said, reply) in enumerate(_exchanges(seed)):
        messages = [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]
        if i == system_in:
            messages.insert(0, {"role": "system", "content": "Be brief."})
        lines.append(json.dumps({"id": f"{names}{i}", "messages": messages}))
    return "\n".join(lines)


def contents() -> dict[str, str]:
    """The text of each file. Some files share ids, some have rejects, and one has a system text at its end."""
    turns = "".join(
        json.dumps({"conversation_id": f"t{i}", "speaker": speaker, "text": text}) + "\n"
        for i, pair in enumerate(_exchanges(3))
        for speaker, text in zip(("ann", "ben"), pair, strict=True)
    )
    rows = "".join(f'"{said}","{reply}"\n' for said, reply in _exchanges(4, 1500))
    script = "".join(f"Ann: {said}\nBen: {reply}\n\n" for said, reply in _exchanges(5, 1500))
    bad = _json_lines(6).replace('{"id": "id17"', "{{").replace('"role": "user"', '"role": 3', 40)
    return {
        "a.jsonl": _json_lines(1),
        "b.jsonl": _json_lines(2),  # the same ids as in a.jsonl
        "c.jsonl": turns,
        "d.csv": f"question,answer\n{rows}",
        "e.txt": script,
        "f.jsonl": bad,
        "g.jsonl": _json_lines(7, system_in=880, names="id-"),
        "h.txt": "No conversation at all.\n" * 4000,
        "i.jsonl": _json_lines(8, names="i")[:3000],  # too small for a shard, and cut off
        "j.json": f"[{','.join(_json_lines(9).splitlines())}]",
    }


def download(folder: Path, names: Iterable[str]) -> Path:
    """The files with these names, as the stage `download` leaves them."""
    own = contents()
    return download_of(folder, **{name: own[name] for name in names})


def parse(download: Path, out: Path, home: Path | None = None) -> dict[str, bytes]:
    """The bytes of the files that the stage `parse` writes, with the shards of a home if there is one."""
    out.mkdir()
    parse_corpus(out, CONFIG, download, shards=StoredShards(home) if home else None)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def main() -> None:
    files, home, dies_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    changes = 0

    def change() -> None:
        nonlocal changes
        changes += 1
        if changes == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(home, change)
    parse(files, home.with_name(f"{home.name}-out-{dies_at}"), home)
    sys.stdout.write(str(changes))


if __name__ == "__main__":
    main()
