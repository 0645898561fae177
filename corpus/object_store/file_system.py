"""File system: opens an object store with the user's credentials, and translates its errors.

pyarrow contains clients for both stores, so that no further package is needed. The credentials are those
that the stores' own tools use: for S3 the variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or
the role of the machine; for Google Cloud Storage the application default credentials.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from corpus.object_store.address import Objects
from corpus.transfer.guard import TransientError
from corpus.transfer.limits import Limits
from models.addresses import redact_addresses
from models.errors import InputError

if TYPE_CHECKING:
    from pyarrow import fs

S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
GOOGLE_ENDPOINT = "STORAGE_EMULATOR_HOST"
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`",
}
_OUTAGE = re.compile(
    "NETWORK_CONNECTION|SLOW_DOWN|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|REQUEST_TIMEOUT|THROTTLING"
    "|HTTP status 5|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL:"
)
_REFUSAL = re.compile(
    "ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|EXPIRED_TOKEN|HTTP status 40[13]"
    "|PERMISSION_DENIED|UNAUTHENTICATED|OAuth2 access token"
)
_MISSING = re.compile(
    "NO_SUCH_BUCKET|NO_SUCH_KEY|RESOURCE_NOT_FOUND|HTTP status 404|NOT_FOUND|not found", re.I
)


def open_file_system(objects: Objects) -> "fs.FileSystem":
    """The file system of the store. For S3, the region of the bucket is found first.

    Raises:
        InputError: there is no such bucket.
        TransientError: the store cannot be reached.
    """
    from pyarrow import fs

    if objects.scheme == "gs":
        endpoint = os.environ.get(GOOGLE_ENDPOINT, "")
        if not endpoint:
            return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=30))
        parts = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        return fs.GcsFileSystem(
            anonymous=True,
            endpoint_override=parts.netloc,
            scheme=parts.scheme,
            retry_time_limit=timedelta(seconds=30),
        )
    own = next((os.environ[name] for name in S3_ENDPOINTS if os.environ.get(name)), None)
    region = next((os.environ[name] for name in REGIONS if os.environ.get(name)), None)
    with errors_translated(objects):
        return fs.S3FileSystem(
            endpoint_override=own,
            region=region or ("us-east-1" if own else fs.resolve_s3_region(objects.bucket)),
            connect_timeout=Limits().connect_s,
        )


@contextmanager
def errors_translated(objects: Objects) -> Iterator[None]:
    """Translate the errors of pyarrow's file systems.

    Raises:
        TransientError: the store cannot be reached, or is overloaded.
        InputError: the store has refused the request, or there are no such objects.
    """
    try:
        yield
    except OSError as error:
        text = redact_addresses(" ".join(str(error).split()))
        if _REFUSAL.search(text):
            raise InputError(f"corpus {objects}: access denied: {CREDENTIALS[objects.scheme]}") from None
        if _OUTAGE.search(text):
            raise TransientError(text[:200]) from None
        if isinstance(error, FileNotFoundError) or _MISSING.search(text):
            raise missing_error(objects) from None
        raise InputError(f"corpus {objects}: {text[:300]}: check the address") from None


def missing_error(objects: Objects) -> InputError:
    """The error for an address at which there is no object."""
    return InputError(
        f"corpus {objects}: there is no such object or folder in the bucket: check the name, which is case-"
        "sensitive"
    )
