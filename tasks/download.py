"""Download: a corpus becomes the two raw files that parse reads, whatever it came in."""

import json
import logging
from pathlib import Path

from prefect import task
from pydantic import Field

from models.config import Config
from tasks.artifacts import Artifact
from tasks.fetch import Limits, fetch, shown
from tasks.sources import MEMBERS, identity, resolve
from tasks.stage import Stage, named
from tasks.unpack import unpack

log = logging.getLogger(__name__)


class DownloadConfig(Config):
    corpus: str = "cornell"
    """`cornell`, `sample`, the path of a zip or folder, or an http(s) address."""
    sample_turns: int = Field(default=24_000, ge=100)
    """Turns of the `sample` corpus, which is generated."""
    sample_seed: int = 0


def download_corpus(out: Path, config: DownloadConfig) -> int:
    """The two raw files; logs/source.json says where they lay; returns the number of files."""
    source = resolve(config.corpus)
    members: dict[str, str] = {}
    if source.kind == "sample":
        from models import sample

        sample.write_corpus(out, turns=config.sample_turns, seed=config.sample_seed)
    elif source.kind == "local":
        members |= unpack(Path(source.locations[0]), MEMBERS, out, pins=source.pins)
    else:
        archive = out.parent.parent / ".partial" / source.name  # a cut download goes on at the next start
        check = lambda path: members.update(unpack(path, MEMBERS, out, pins=source.pins))  # noqa: E731
        fetch(list(source.locations), archive, limits=Limits(), progress=_show, check=check)
    (out / "logs").mkdir()  # where it lay decides nothing: the same bytes elsewhere are the same corpus
    told = {
        "name": source.name,
        "corpus": shown(config.corpus) if source.kind == "http" else config.corpus,
        "members": members,
    }
    (out / "logs" / "source.json").write_text(json.dumps(told, indent=2) + "\n")
    return len(MEMBERS)


def _show(done_bytes: int, total_bytes: int | None) -> None:
    of = f" of {total_bytes / 1e6:.1f}" if total_bytes else ""
    logging.getLogger("progress").info("download: %.1f%s MB", done_bytes / 1e6, of)


def corpus_identity(config: DownloadConfig) -> str:
    """What the corpus holds, as far as can be told without getting it."""
    return identity(resolve(config.corpus))


STAGE = Stage("download", download_corpus)


@task(task_run_name="download", retries=1, retry_delay_seconds=2)
def download(config: DownloadConfig, home: Path) -> Artifact:
    return named(STAGE.run(home, config, {}, identity=corpus_identity(config)))
