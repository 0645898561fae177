"""Addresses of data sets of the Hugging Face hub: `hf:ORG/NAME`, with `/FOLDER` and `@COMMIT` if needed."""

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote

from models.addresses import HUB_DATA_SET, redact_corpus
from models.errors import InputError

COMMIT = re.compile(r"[0-9a-f]{40}")
FORM = "hf:ORG/NAME, with /FOLDER and then @COMMIT if needed"
# The forms of other programs, which are pasted from their pages: `hf://datasets/...` from fsspec, and the
# addresses of the hub's own pages.
_URI = re.compile(r"hf://datasets/(?P<name>[^/@?#]+/[^/@?#]+)(@(?P<revision>[^/?#]+))?(/(?P<path>[^@?#]*))?")
_PAGE = re.compile(
    r"https?://huggingface\.co/datasets/(?P<name>[^/@?#]+/[^/@?#]+)"
    r"(/?|/(tree|blob|viewer)(/(?P<revision>[^/?#]+)(/(?P<path>[^@?#]*))?)?)([?#].*)?"
)


@dataclass(frozen=True)
class DataSet:
    """A data set of the hub, or a part of one."""

    name: str
    """ORG/NAME."""
    path: str = ""
    """A folder, a file or a configuration; "" for the whole data set."""
    revision: str = ""
    """A commit, a branch or a tag; "" for the newest commit."""

    def __str__(self) -> str:
        path = f"/{self.path}" if self.path else ""
        return f"hf:{self.name}{path}{f'@{self.revision}' if self.revision else ''}"

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is the id of a commit, which always names the same content."""
        return COMMIT.fullmatch(self.revision) is not None

    def at(self, revision: str) -> "DataSet":
        """The same data set at another revision."""
        return replace(self, revision=revision)


def read_address(corpus: str) -> DataSet:
    """The data set that a text beginning with `hf:` names.

    Raises:
        InputError: the text is not in the form hf:ORG/NAME.
    """
    text = corpus.strip()
    found = HUB_DATA_SET.fullmatch(text)
    if found and not {".", ".."} & set(found["path"].split("/")):
        return DataSet(found["name"], found["path"].strip("/"), found["revision"] or "")
    if found := _URI.fullmatch(text):
        raise InputError(f"corpus {redact_corpus(text)}: give {_from_match(found)}")
    raise InputError(
        f"corpus {redact_corpus(text)} names no data set of the Hugging Face hub: give {FORM}, such as "
        "hf:OpenAssistant/oasst1"
    )


def check_page(url: str) -> None:
    """Check that an address is not that of a page about a data set.

    Raises:
        InputError: it is; the message says how to give the data set itself.
    """
    if found := _PAGE.fullmatch(url):
        raise InputError(f"corpus {redact_corpus(url)} is a page about a data set: give {_from_match(found)}")


def name_of(data_set: DataSet) -> str:
    """A short name that is safe as the name of a folder. It does not depend on the revision."""
    path = re.sub(r"\.(parquet|arrow|jsonl?|csv|tsv|txt|zip|gz|zst)\b", "", data_set.path)
    name = data_set.name.partition("/")[2] + (f"-{path}" if path else "")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80] or "corpus"


def _from_match(found: re.Match[str]) -> DataSet:
    path = unquote(found["path"] or "").strip("/")
    return DataSet(found["name"], path, unquote(found["revision"] or ""))
