"""Downloads a model folder from the Hugging Face hub, in a separate process.

In all other Repartee processes, HF_HUB_OFFLINE prevents the libraries from accessing the hub.
"""

import os
import subprocess
import sys
from pathlib import Path

from models.addresses import redact_addresses
from models.errors import InputError
from models.files import PROJECT

PATTERNS = ["*.safetensors", "*.json", "*.jinja"]  # no pickle, and no file that could contain code
BELOW = "*/*"  # subfolders contain the same weights in other formats


def commit_of(name: str) -> str:
    """The current commit of ORG/NAME on the hub.

    Raises:
        InputError: the hub has no such public model, or cannot be reached.
    """
    return _run(name, "commit")


def download(name: str, commit: str, out: Path) -> None:
    """Download the weights, configuration, tokenizer and chat template of a commit, with progress bars.

    Raises:
        InputError: the hub has no such public model, or cannot be reached.
    """
    _run(name, "download", commit, str(out))


def _run(name: str, *what: str) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "0"}
    command = [sys.executable, "-m", "models.pretrained.hub", name, *what]
    process = subprocess.run(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)
    output = process.stdout.strip()
    if process.returncode:
        output = output or f"the process that asked the hub ended with status {process.returncode}"
        raise InputError(f"init {name!r}: there is no such folder, and {output}; give a model folder")
    return output


def run_request(name: str, what: str, *rest: str) -> str:
    """Request a commit or a download from the hub; return the commit, or "" after a download.

    Raises:
        InputError: the request has failed; the message gives the reason in a few words.
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
        raise InputError(
            "the model's licence must first be accepted on the hub (then run `hf auth login`)"
        ) from None
    except RepositoryNotFoundError:
        raise InputError("the hub has no public model of this name") from None
    except (HfHubHTTPError, HTTPError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"the request to the hub failed ({redact_addresses(reason)})") from None


def main() -> int:
    try:
        sys.stdout.write(run_request(*sys.argv[1:]))
    except InputError as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
