"""Selection: which files of a data set hold its conversations, so that none of them is read twice.

Many data sets contain the same rows several times: in several formats, compressed and not, or in
configurations that overlap. The choice is made from the names alone, before anything is downloaded:

1. the folder, the file or the configuration that the user has given; otherwise the default configuration of
   the data set's card; otherwise the folder data/, if it holds any data; otherwise everything
2. of this, the files of one format: Parquet or Arrow, because that is what the hub's tools write;
   otherwise the one of the text formats with the most bytes, because the others are
   often lists and statistics; a zip file only if there is nothing else
3. of equal files, and of a file and its compressed copy, the first
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from corpus.hub.address import DataSet
from corpus.hub.listing import HubFile, Listing
from corpus.transfer.members import list_names
from models.addresses import HUB_DATA_SET
from models.errors import InputError

log = logging.getLogger(__name__)

FORMATS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
}
"""The formats that the readers know, by suffix. A name is only a hint, and the readers check the content."""
ZIP = "zip"
RANKS, RANK_OF_TEXT = {"parquet": 0, "arrow": 1, ZIP: 3}, 2
COMPRESSED = (".gz", ".zst", ".zip")
# What the hub's own tools, and people, store beside the data.
OTHER_NAMES = re.compile(
    r"(dataset_infos?|dataset_dict|state|config|croissant|package)\.json"
    r"|(readme|licen[cs]e|requirements|citation|notice)[^/]*\.txt"
)
DATA_FOLDER = "data/"
CONVERTED = "refs/convert/parquet"


def select_files(data_set: DataSet, listing: Listing) -> list[HubFile]:
    """The files that are read, in the order of their paths.

    Raises:
        InputError: there are none, or the user must choose a configuration.
    """
    part = _chosen_part(data_set, listing)
    readable = [file for file in part if format_of(file.path)]
    if not readable:
        raise _nothing_error(data_set, part or listing.files)
    return _without_copies(_of_one_format(readable))


def log_left_out(data_set: DataSet, listing: Listing, files: Sequence[HubFile]) -> None:
    """Log how many files with data are not among those that are read, and the first of them."""
    left_out = [file.path for file in listing.files if format_of(file.path) and file not in files]
    if left_out:
        log.info(
            "%s: %d of %d files with data are read; left out: %s",
            data_set,
            len(files),
            len(files) + len(left_out),
            list_names(left_out),
        )


def format_of(path: str) -> str:
    """The format that the name of a file promises; "" if it is none that the readers know."""
    parts = path.lower().split("/")
    name = PurePosixPath(parts[-1])
    if any(part.startswith(".") for part in parts) or OTHER_NAMES.fullmatch(name.name):
        return ""
    if name.suffix in COMPRESSED:
        inner = FORMATS.get(PurePosixPath(name.stem).suffix, "")
        return inner or (ZIP if name.suffix == ".zip" else "")
    return FORMATS.get(name.suffix, "")


def _chosen_part(data_set: DataSet, listing: Listing) -> list[HubFile]:
    files = sorted(listing.files, key=lambda file: file.path)
    configurations = _configurations(listing, files)
    if data_set.path:
        found = configurations.get(data_set.path) or [
            file for file in files if f"{file.path}/".startswith(f"{data_set.path}/")
        ]
        if not found:
            there_is = list_names([file.path.partition("/")[0] for file in files] + list(configurations))
            raise InputError(
                f"corpus {data_set}: the data set has no folder, file or configuration "
                f"{data_set.path!r}: it has {there_is}"
            )
        return found
    if configurations:
        return configurations[_default_configuration(data_set, listing, configurations)]
    in_folder = [file for file in files if file.path.startswith(DATA_FOLDER)]
    return in_folder if any(format_of(file.path) for file in in_folder) else files


def _configurations(listing: Listing, files: Sequence[HubFile]) -> dict[str, list[HubFile]]:
    """The files of each configuration that the card describes, if there are any that can be read."""
    found = {}
    for each in listing.configurations:
        patterns = _patterns(each.get("data_files"))
        folder = each.get("data_dir")
        if isinstance(folder, str) and (folder := folder.strip("./")):
            patterns = [f"{folder}/{pattern}" for pattern in patterns or ["**"]]
        exact = set(patterns)
        globs = [pattern for pattern in patterns if re.search(r"[*?[]", pattern)]
        own = [
            file
            for file in files
            if file.path in exact or any(_matches(file.path, pattern) for pattern in globs)
        ]
        if any(format_of(file.path) for file in own):
            found[str(each.get("config_name", "default"))] = own
    return found


def _default_configuration(
    data_set: DataSet, listing: Listing, configurations: dict[str, list[HubFile]]
) -> str:
    default = [str(each.get("config_name")) for each in listing.configurations if each.get("default") is True]
    names = list(configurations)
    for name in (*default, "default", *(names if len(names) == 1 else [])):
        if name in configurations:
            return name
    raise InputError(
        f"corpus {data_set}: the data set has {len(names)} configurations and no default "
        f"({list_names(names)}): give one of them{example_of(data_set, names)}"
    )


def example_of(data_set: DataSet, paths: Sequence[str]) -> str:
    """A text such as `, as in hf:ORG/NAME/FOLDER`, with the first of the paths that can be given."""
    parts = (str(replace(data_set, path=path)) for path in paths)
    return next((f", as in {part}" for part in parts if HUB_DATA_SET.fullmatch(part)), "")


def _patterns(data_files: Any) -> list[str]:
    """The patterns of a configuration: a text, a list of texts, or a list with a `path` for each split."""
    if isinstance(data_files, str):
        return [data_files.removeprefix("./")]
    if isinstance(data_files, dict):
        return _patterns(data_files.get("path"))
    if isinstance(data_files, list):
        return [pattern for each in data_files for pattern in _patterns(each)]
    return []


def _matches(path: str, pattern: str) -> bool:
    """Whether a path has the form of a pattern, in which `*` matches no slash and `**` any folders.

    The time is bounded, whatever the pattern is: it comes from the author of the data set.
    """
    wanted = re.sub(r"(?<![^/])\*\*(?=[^/])", "**/*", pattern).split("/")
    reached = _with_empty(wanted, {0})  # how many parts of the pattern the parts of the path may have matched
    for part in path.split("/"):
        steps = (i if wanted[i] == "**" else i + 1 for i in reached if _fits(part, wanted, i))
        reached = _with_empty(wanted, set(steps))
    return len(wanted) in reached


def _fits(part: str, wanted: Sequence[str], i: int) -> bool:
    return i < len(wanted) and (wanted[i] == "**" or fnmatchcase(part, wanted[i]))


def _with_empty(wanted: Sequence[str], reached: set[int]) -> set[int]:
    """The numbers, and those that follow because `**` also matches no folder at all."""
    for i, part in enumerate(wanted):
        if i in reached and part == "**":
            reached.add(i + 1)
    return reached


def _of_one_format(files: list[HubFile]) -> list[HubFile]:
    by_format: dict[str, list[HubFile]] = {}
    for file in files:
        by_format.setdefault(format_of(file.path), []).append(file)

    def preference(name: str) -> tuple[int, int]:
        rank = RANKS.get(name, RANK_OF_TEXT)
        return rank, -sum(file.size_bytes or 0 for file in by_format[name]) if rank == RANK_OF_TEXT else 0

    return by_format[min(by_format, key=preference)]


def _without_copies(files: list[HubFile]) -> list[HubFile]:
    """The files without equal ones, and without the compressed copies of others."""
    found: dict[str, HubFile] = {}
    for file in files:
        stem = re.sub(r"\.(gz|zst|zip)$", "", file.path, flags=re.IGNORECASE)
        is_equal = file.digest and file.digest in {other.digest for other in found.values()}
        if stem not in found and not is_equal:
            found[stem] = file
    return list(found.values())


def _nothing_error(data_set: DataSet, files: Sequence[HubFile]) -> InputError:
    there_is = list_names([file.path for file in files]) or "nothing"
    if any(file.path.endswith(".py") for file in files) and data_set.revision != CONVERTED:
        return InputError(
            f"corpus {data_set}: the data set has a script and no file that can be read, and a script is "
            f"never run: give the files into which the hub has converted it, {data_set.at(CONVERTED)}"
        )
    return InputError(
        f"corpus {data_set}: no file that can be read: it has {there_is}; docs/corpora.md shows the formats "
        "that can be read"
    )
