"""Hub: a model folder from the Hugging Face hub, when a person has asked for one.

In a process of its own: in this one the libraries are told to ask no hub for anything.
"""

import os
import subprocess
import sys
from pathlib import Path

from models.addresses import bare
from models.errors import InputError
from models.files import PROJECT

PATTERNS = ["*.safetensors", "*.json", "*.jinja"]  # no pickle, and nothing that could hold code
BELOW = "*/*"  # other people's conversions of the same weights


def commit_of(name: str) -> str:
    """The commit at which the hub has ORG/NAME now.

    Raises:
        InputError: it has none, or not for everyone, or cannot be reached.
    """
    return _ask(name, "commit")


def download(name: str, commit: str, out: Path) -> None:
    """Weights, settings, tokenizer and template of that commit; the bars go to the terminal.

    Raises:
        InputError: as for `commit_of`.
    """
    _ask(name, "download", commit, str(out))


def _ask(name: str, *what: str) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "0"}
    command = [sys.executable, "-m", "models.pretrained.hub", name, *what]
    made = subprocess.run(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)
    told = made.stdout.strip()
    if made.returncode:
        told = told or f"to ask the hub ended with status {made.returncode}"
        raise InputError(f"init {name!r}: there is no such folder, and {told}; give a model folder")
    return told


def answer(name: str, what: str, *rest: str) -> str:
    """The commit, or nothing once the files are there.

    Raises:
        InputError: in a few words, what the hub has against it.
    """
    import huggingface_hub as hub
    from httpx2 import HTTPError
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        if what == "commit":
            return str(hub.HfApi().model_info(name).sha)
        commit, out = rest
        hub.snapshot_download(
            name, revision=commit, local_dir=out, allow_patterns=PATTERNS, ignore_patterns=BELOW
        )
        return ""
    except GatedRepoError:
        raise InputError("on the hub its licence must be accepted first (then `hf auth login`)") from None
    except RepositoryNotFoundError:
        raise InputError("the hub has no such model for everyone to read") from None
    except (HfHubHTTPError, HTTPError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"the hub cannot be asked ({bare(reason)})") from None


def main() -> int:
    try:
        sys.stdout.write(answer(*sys.argv[1:]))
    except InputError as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
