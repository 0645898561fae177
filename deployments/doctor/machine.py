"""The machine: packages, the home's disk and locks, the GPU, the switches in the environment, the ports."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from filelock import FileLock, Timeout
from packaging.requirements import Requirement

from deployments.doctor.installation import NO_HOME, CheckSkipped, Fault, Installation
from deployments.local.services import is_free
from deployments.status import nearest_folder
from models.errors import InputError
from settings import services_told
from tasks.store.artifact import check_writable

NEEDED_BYTES = 1_000_000_000  # some runs of `small`; a database that meets a full disk stops everything

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
# What the services are given by `up` is safe; these reach processes that nobody gave anything.
SWITCHES = (
    ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", TRUE, "a model from anywhere could run code here"),
    ("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", TRUE, "any page that you visit could use MLflow"),
    ("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", ("*",), "any page that you visit could use Prefect"),
    ("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", FALSE, "any page that you visit could use Prefect"),
    ("PREFECT_RESULTS_PERSIST_BY_DEFAULT", TRUE, "results are read back as pickles, which run code"),
    ("OMP_WAIT_POLICY", ("active",), "beside another busy process a training step takes 50 times as long"),
)


def packages(installation: Installation) -> Iterator[Fault]:
    """No version that is known to break: SQLAlchemy 2.1 stops Prefect's scheduler without a word."""
    for line in metadata.requires("repartee") or []:
        needed = Requirement(line)
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        remedy = (
            f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(f'{needed.name}{needed.specifier}')}"
        )
        try:
            version = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            yield Fault(f"{needed.name} is not installed", remedy)
            continue
        if not needed.specifier.contains(version, prereleases=True):
            yield Fault(f"{needed.name} {version} is installed, and {needed.specifier} is needed", remedy)


def home(installation: Installation) -> Iterator[Fault]:
    """The home folder can be written."""
    remedy = "export REPARTEE_HOME=/a/folder/that/you/can/write"
    try:
        check_writable(installation.home)
        if installation.home.exists():
            tempfile.TemporaryDirectory(prefix=".doctor-", dir=installation.home).cleanup()
    except InputError as error:
        yield Fault(str(error), remedy)
    except OSError as error:
        yield Fault(f"the home folder {installation.home} cannot be written ({error.strerror})", remedy)


def disk(installation: Installation) -> Iterator[Fault]:
    """There is room for some runs."""
    free = shutil.disk_usage(nearest_folder(installation.home)).free
    if free < NEEDED_BYTES:
        yield Fault(
            f"{free / 1e6:,.0f} MB are free for {installation.home}, which needs {NEEDED_BYTES / 1e6:,.0f}; "
            "delete the stages' outputs: the next run makes them again, and no registered model is lost",
            f"rm -r {shlex.quote(str(installation.home / 'store'))}",
        )


def locks(installation: Installation) -> Iterator[Fault]:
    """A lock on the home's file system keeps a second one out; not every network's does."""
    if not installation.home.is_dir():
        raise CheckSkipped(NO_HOME)
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=installation.home) as folder:
        path = Path(folder) / "lock"
        with FileLock(path):
            try:
                with FileLock(path, timeout=0):
                    shared = True
            except Timeout:
                shared = False
    if shared:
        yield Fault(
            f"locks do not exclude each other on the file system of {installation.home}: "
            "two trainings could run at once",
            "export REPARTEE_HOME=/a/folder/on/a/local/disk",
        )


def gpu(installation: Installation) -> Iterator[Fault]:
    """A GPU that is there is used."""
    if shutil.which("nvidia-smi") is None:
        raise CheckSkipped(
            "this machine has no NVIDIA GPU: trainings run on its processor, or on Apple's GPU"
        )
    asked = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    if asked.returncode:
        said = (asked.stdout or asked.stderr).strip()[:200]
        yield Fault(f"nvidia-smi ends with {asked.returncode}: {said}", "nvidia-smi")
        return
    import torch

    if asked.stdout.strip() and not torch.cuda.is_available():
        name = asked.stdout.partition(":")[2].partition("(")[0].strip() or "a GPU"
        told = f"{name} is here, and torch {torch.__version__} cannot use it"
        if built := torch.version.cuda:
            yield Fault(f"{told}: its driver is too old for CUDA {built}", "update the driver of the GPU")
        else:
            command = "-m pip install --force-reinstall --no-deps torch"
            yield Fault(f"{told}: it was built for the CPU alone", f"{shlex.quote(sys.executable)} {command}")


def switches(installation: Installation) -> Iterator[Fault]:
    """Nothing in the environment opens what is closed."""
    for name, unsafe, why in SWITCHES:
        value = os.environ.get(name, "")
        if value.lower() in unsafe:
            yield Fault(f"{name}={value}: {why}", f"unset {name}")


def ports(installation: Installation) -> Iterator[Fault]:
    """The ports that this home's servers had last are free, so that open pages and bookmarks go on."""
    if installation.services:
        raise CheckSkipped("the services are up and have them")
    for name, service in services_told(installation.home)["services"].items():
        port = int(service["address"].rpartition(":")[2] or 0)
        if port and not is_free(port):
            yield Fault(
                f"port {port}, {name}'s until now, belongs to another program (`fuser -v -n tcp {port}` says "
                f"which): `up` will put {name} elsewhere, and open pages and bookmarks meet a stranger",
                f"fuser -k -n tcp {port}",
            )
