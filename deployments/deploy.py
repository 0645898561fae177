"""Create or update the deployments of prefect.yaml, and keep the values that a user has set on the server.

Both install.py (for the workers) and serve.py (for its own process) use this module. Fields that are set in
prefect.yaml are overwritten on the server; all other fields keep their values. The schedules of an existing
deployment are not sent: if they were, Prefect would reset the on/off switch of the weekly schedule, and would
delete all schedules if one of them had no slug. Parameters that an older version of the input form in the
dashboard has stored in a deployment or a schedule are converted to the parameters of the present form.
"""

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import validate
from prefect.utilities.schema_tools.validation import ValidationError

from flows.lifecycle.parameters import without_changes
from models.files import PROJECT

log = logging.getLogger(__name__)

FILE = PROJECT / "deployments" / "prefect.yaml"
WEEKLY = {"cron": "0 3 * * 1", "timezone": "UTC", "slug": "weekly", "active": False}
SCHEDULED = "retrain/retrain"


def deploy(client: SyncPrefectClient) -> None:
    """Create or update the deployments for the workers of the work pool.

    Raises:
        RuntimeError: Prefect or its server has refused a deployment.
    """
    file = yaml.safe_load(FILE.read_text("utf-8")) | {"deployments": entries(client)}
    with tempfile.NamedTemporaryFile("w", prefix="repartee-", suffix=".yaml", encoding="utf-8") as written:
        yaml.safe_dump(file, written, allow_unicode=True)
        written.flush()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"),
                *("--prefect-file", written.name),
            ],
            cwd=PROJECT,
            env={**os.environ, "PWD": str(PROJECT)},  # for `{{ $PWD }}` in prefect.yaml
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"Prefect refused the deployments: {(done.stderr or done.stdout).strip()[-500:]}")


def entries(client: SyncPrefectClient) -> list[dict[str, Any]]:
    """The deployments of prefect.yaml, each with the values that a user has changed on the server."""
    return [_entry(client, entry) for entry in yaml.safe_load(FILE.read_text("utf-8"))["deployments"]]


def find_deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    """The deployment with this name (`FLOW/DEPLOYMENT`), or None if the server has none."""
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _entry(client: SyncPrefectClient, entry: dict[str, Any]) -> dict[str, Any]:
    name = f"{entry['entrypoint'].rpartition(':')[2]}/{entry['name']}"
    existing = find_deployment(client, name)
    if existing is None:
        return entry | {"schedules": [WEEKLY]} if name == SCHEDULED else entry
    from_server = {
        "parameters": _parameters(name, entry["entrypoint"], existing),
        "tags": existing.tags,
        "paused": existing.paused,
    }
    pool = {"work_queue_name": existing.work_queue_name, "job_variables": existing.job_variables}
    if existing.work_pool_name != entry["work_pool"]["name"]:  # at present, serve.py serves this deployment
        pool.pop("work_queue_name")
    return from_server | entry | {"work_pool": pool | entry["work_pool"]}


def _parameters(name: str, entrypoint: str, existing: DeploymentResponse) -> dict[str, Any]:
    """The parameters that a user has set on the server, or no parameters if the flow no longer accepts
    them."""
    parameters = without_changes(existing.parameters)
    if not parameters:
        return {}
    schema = parameter_schema(load_flow_from_entrypoint(str(PROJECT / entrypoint))).model_dump()
    why = f"the flow has only the parameters {', '.join(schema['properties'])}"
    try:
        validate(parameters, schema, raise_on_error=True, ignore_required=True)
        if parameters.keys() <= schema["properties"].keys():
            return parameters
    except ValidationError as error:
        why = str(error)
    log.warning("%s: the parameters %s that were set on the server are dropped: %s", name, parameters, why)
    return {}


def simplify_forms(client: SyncPrefectClient, names: Sequence[str]) -> None:
    """Make the dashboard show one plain input for each optional parameter of these deployments. Otherwise the
    input form would also ask for the type of the value."""
    for name in names:
        deployment = client.read_deployment_by_name(name)
        schema = simple_schema(deployment.parameter_openapi_schema or {})
        client.update_deployment(deployment.id, DeploymentUpdate(parameter_openapi_schema=schema))


def simple_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a flow's parameters, changed so that a parameter with the default None has one type.

    The default None is also removed from the schema, because otherwise the server would not accept null.
    """
    fields = {}
    for name, field in schema.get("properties", {}).items():
        fields[name] = field
        if "anyOf" in field and field.get("default", "") is None:
            described = {key: value for key, value in field.items() if key not in ("anyOf", "default")}
            fields[name] = described | field["anyOf"][0]
    return schema | {"properties": fields}


def convert_schedules(client: SyncPrefectClient, names: Sequence[str]) -> None:
    """Convert the parameters that an older version of the dashboard's input form has stored in schedules to
    the parameters of the present form."""
    for name in names:
        deployment = client.read_deployment_by_name(name)
        for schedule in deployment.schedules:
            if schedule.id and "changes" in schedule.parameters:
                present = without_changes(schedule.parameters)
                client.update_deployment_schedule(deployment.id, schedule.id, parameters=present)
