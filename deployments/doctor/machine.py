"""Checks of the machine: packages, the disk and the locks of the home, GPU, environment and ports."""

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

from deployments.disk import nearest_folder
from deployments.doctor.installation import NO_HOME, CheckSkipped, Fault, Installation
from deployments.local.services import is_free
from models.errors import InputError
from services_state import last_state
from tasks.store.artifact import check_writable

NEEDED_BYTES = 1_000_000_000  # enough for some runs of `small`; a database on a full disk stops everything

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
# `repartee up` gives its services safe values; these variables would reach all other processes.
SWITCHES = (
    ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", TRUE, "a model from anywhere could run code on this machine"),
    ("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", TRUE, "any page that you visit could use MLflow"),
    ("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", ("*",), "any page that you visit could use Prefect"),
    ("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", FALSE, "any page that you visit could use Prefect"),
    ("PREFECT_RESULTS_PERSIST_BY_DEFAULT", TRUE, "results are read back as pickles, which can run code"),
    ("OMP_WAIT_POLICY", ("active",), "beside another busy process a training step takes 50 times as long"),
)


def packages(installation: Installation) -> Iterator[Fault]:
    """Every package has a version that works: SQLAlchemy 2.1, for one, silently stops Prefect's scheduler."""
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
    """The disk has room for some runs."""
    free = shutil.disk_usage(nearest_folder(installation.home)).free
    if free < NEEDED_BYTES:
        yield Fault(
            f"{free / 1e6:,.0f} MB are free for {installation.home}, which needs {NEEDED_BYTES / 1e6:,.0f}; "
            "delete the stages' outputs: the next run makes them again, and no registered model is lost",
            f"rm -r {shlex.quote(str(installation.home / 'store'))}",
        )


def locks(installation: Installation) -> Iterator[Fault]:
    """Locks on the home's file system exclude each other, as they do not on every network file system."""
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
    """PyTorch can use the GPU of this machine."""
    if shutil.which("nvidia-smi") is None:
        raise CheckSkipped(
            "this machine has no NVIDIA GPU: trainings run on its processor, or on Apple's GPU"
        )
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    if listing.returncode:
        output = (listing.stdout or listing.stderr).strip()[:200]
        yield Fault(f"nvidia-smi ends with status {listing.returncode}: {output}", "nvidia-smi")
        return
    import torch

    if listing.stdout.strip() and not torch.cuda.is_available():
        name = listing.stdout.partition(":")[2].partition("(")[0].strip() or "a GPU"
        what = f"{name} is here, and torch {torch.__version__} cannot use it"
        if cuda := torch.version.cuda:
            yield Fault(f"{what}: its driver is too old for CUDA {cuda}", "update the driver of the GPU")
        else:
            command = "-m pip install --force-reinstall --no-deps torch"
            yield Fault(
                f"{what}: this torch was built for the CPU alone", f"{shlex.quote(sys.executable)} {command}"
            )


def switches(installation: Installation) -> Iterator[Fault]:
    """No environment variable turns off a protection."""
    for name, unsafe, why in SWITCHES:
        value = os.environ.get(name, "")
        if value.lower() in unsafe:
            yield Fault(f"{name}={value}: {why}", f"unset {name}")


def ports(installation: Installation) -> Iterator[Fault]:
    """The last ports of this home's servers are free, so open pages and bookmarks stay valid."""
    if installation.services:
        raise CheckSkipped("the services are up and use their ports")
    for name, service in last_state(installation.home).services.items():
        port = int(service.address.rpartition(":")[2] or 0)
        if port and not is_free(port):
            yield Fault(
                f"port {port}, last used by {name}, belongs to another program (`fuser -v -n tcp {port}` "
                "shows it): `repartee up` will choose another port, and open pages and bookmarks will lead "
                "to that program",
                f"fuser -k -n tcp {port}",
            )
