"""Checks of the machine: packages, home folder, disk space, file locks, GPU, environment and ports."""

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

NEEDED_BYTES = (
    1_000_000_000  # enough for several runs of `small`; if the disk is full, the databases and all runs fail
)

TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
# Environment variables, their unsafe values, and the danger of each. `repartee up` sets safe values for its
# services, but all other processes inherit the user's values.
SWITCHES = (
    ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", TRUE, "a model from any source could run code on this machine"),
    (
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE",
        TRUE,
        "any web page that you visit could send requests to your MLflow server",
    ),
    (
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS",
        ("*",),
        "any web page that you visit could send requests to your Prefect server",
    ),
    (
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED",
        FALSE,
        "any web page that you visit could send requests to your Prefect server",
    ),
    ("PREFECT_RESULTS_PERSIST_BY_DEFAULT", TRUE, "results would be read as pickles, which can run code"),
    ("OMP_WAIT_POLICY", ("active",), "while another process is busy, a training step takes 50 times as long"),
)


def packages(installation: Installation) -> Iterator[Fault]:
    """Every package has a version with which Repartee works."""
    # With SQLAlchemy 2.1, for example, Prefect's scheduler stops without an error.
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
            yield Fault(f"{needed.name} {version} is installed, but {needed.specifier} is needed", remedy)


def home(installation: Installation) -> Iterator[Fault]:
    """The home folder is writable."""
    remedy = "export REPARTEE_HOME=/a/folder/that/you/can/write"
    try:
        check_writable(installation.home)
        if installation.home.exists():
            tempfile.TemporaryDirectory(prefix=".doctor-", dir=installation.home).cleanup()
    except InputError as error:
        yield Fault(str(error), remedy)
    except OSError as error:
        yield Fault(f"the home folder {installation.home} is not writable ({error.strerror})", remedy)


def disk(installation: Installation) -> Iterator[Fault]:
    """The disk has enough free space for several runs."""
    free = shutil.disk_usage(nearest_folder(installation.home)).free
    if free < NEEDED_BYTES:
        yield Fault(
            f"{free / 1e6:,.0f} MB are free on the disk of {installation.home}, but "
            f"{NEEDED_BYTES / 1e6:,.0f} MB are needed: delete the outputs of the stages; the next run "
            "rebuilds them, and no registered model is lost",
            f"rm -r {shlex.quote(str(installation.home / 'store'))}",
        )


def locks(installation: Installation) -> Iterator[Fault]:
    """File locks work on the home's file system; on some network file systems they do not."""
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
            f"file locks have no effect on the file system of {installation.home}: "
            "two training runs could start at the same time",
            "export REPARTEE_HOME=/a/folder/on/a/local/disk",
        )


def gpu(installation: Installation) -> Iterator[Fault]:
    """PyTorch can use the GPU of this machine."""
    if shutil.which("nvidia-smi") is None:
        raise CheckSkipped(
            "this machine has no NVIDIA GPU, so models are trained on the CPU or on an Apple GPU"
        )
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    if listing.returncode:
        output = (listing.stdout or listing.stderr).strip()[:200]
        yield Fault(f"nvidia-smi exited with status {listing.returncode}: {output}", "nvidia-smi")
        return
    import torch

    if listing.stdout.strip() and not torch.cuda.is_available():
        name = listing.stdout.partition(":")[2].partition("(")[0].strip() or "a GPU"
        what = f"{name} is present, but torch {torch.__version__} cannot use it"
        if cuda := torch.version.cuda:
            yield Fault(f"{what}: the GPU driver is too old for CUDA {cuda}", "update the GPU driver")
        else:
            command = "-m pip install --force-reinstall --no-deps torch"
            yield Fault(
                f"{what}: this build of torch supports only the CPU",
                f"{shlex.quote(sys.executable)} {command}",
            )


def switches(installation: Installation) -> Iterator[Fault]:
    """No environment variable disables a safeguard."""
    for name, unsafe, why in SWITCHES:
        value = os.environ.get(name, "")
        if value.lower() in unsafe:
            yield Fault(f"{name}={value}: {why}", f"unset {name}")


def ports(installation: Installation) -> Iterator[Fault]:
    """The ports that this home's servers last used are free, so bookmarks and open pages still work."""
    if installation.services:
        raise CheckSkipped("the services are up and are using their ports")
    for name, service in last_state(installation.home).services.items():
        port = int(service.address.rpartition(":")[2] or 0)
        if port and not is_free(port):
            yield Fault(
                f"port {port}, last used by {name}, is in use by another program (`fuser -v -n tcp {port}` "
                "shows which): `repartee up` will choose another port, and open pages and bookmarks will "
                "lead to that program",
                f"fuser -k -n tcp {port}",
            )
