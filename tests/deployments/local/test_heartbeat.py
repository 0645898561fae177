"""On a server that other projects use, only Repartee's runs count as crashed when their heartbeat stops."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.schemas.objects import FlowRun
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent

from deployments.install import crashed_when_silent
from deployments.local.heartbeat import heartbeat_event

OURS = uuid4()


@flow
def retrain():
    pass


@pytest.mark.parametrize(("flow_id", "watched"), [(OURS, True), (uuid4(), False)])
def test_a_missing_heartbeat_counts_as_a_crash_for_our_flows_alone(flow_id, watched):
    trigger = crashed_when_silent({OURS, uuid4()}).trigger
    heartbeat = heartbeat_event(retrain, FlowRun(flow_id=flow_id))
    event = ReceivedEvent(id=uuid4(), occurred=datetime.now(UTC), received=datetime.now(UTC), **heartbeat)
    assert EventTrigger.model_validate(trigger.model_dump()).covers(event) is watched
