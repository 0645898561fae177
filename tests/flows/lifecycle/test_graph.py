"""The chains run the right stages in the right order, and a run does what its plan says."""

import inspect
from dataclasses import replace

import pytest
from shouting import Knobs, shout

from flows.config import RetrainConfig
from flows.lifecycle.context import describe_run
from flows.lifecycle.graph import needed_for, run_chain
from flows.prepare import DATA
from flows.reevaluate import CHAIN as EVALUATION
from flows.retrain import CHAIN
from settings import Settings
from tasks.clean import clean
from tasks.gate import rescore
from tasks.plan import plan_chain
from tasks.store.stage import Stage
from tasks.train import train

CONTEXT = {
    "shards",
    "replay",
    "source",
    "corpus",
    "watch",
    "check",
    "work",
    "forgotten",
    "trunk",
    "next_trunk",
}  # arguments that are not outputs of stages


def quiet(out, config):
    return shout(out, config)


def loud(out, config, quiet):
    return shout(out, config, quiet=quiet)


QUIET = Stage("quiet", quiet, settings="knobs")
LOUD = Stage("loud", loud, reads=("quiet",), settings="knobs")


def context_of(home, **knobs):
    run = describe_run(RetrainConfig(), Settings())
    return replace(run, home=home, settings={**run.settings, "knobs": Knobs(**knobs)})


def test_a_chain_runs_once_and_is_planned_as_it_runs(tmp_path):
    run, chain = context_of(tmp_path), (QUIET, LOUD)
    planned, outputs = plan_chain(run, chain)
    assert [(stage.name, stage.action, stage.why) for stage in planned] == [
        ("quiet", "run", "no stored output yet"),
        ("loud", "run", "quiet changes"),
    ]
    assert outputs == {}
    first = run_chain(run, chain, in_flow=False)
    assert [output.status for output in first.values()] == ["ran", "ran"]
    planned, outputs = plan_chain(run, chain)
    assert [stage.action for stage in planned] == ["reuse", "reuse"]
    again = run_chain(run, chain, in_flow=False)
    assert outputs == again and [output.status for output in again.values()] == ["reused", "reused"]


def test_a_changed_setting_runs_its_stage_and_those_that_read_another_output(tmp_path):
    run_chain(context_of(tmp_path), (QUIET, LOUD), in_flow=False)
    run = context_of(tmp_path, word="b")
    assert [stage.action for stage in plan_chain(run, (QUIET, LOUD))[0]] == ["run", "run"]
    outputs = run_chain(run, (QUIET, LOUD), in_flow=False)
    assert outputs["loud"].why in ("the output of quiet changed", "word changed from a to b")


@pytest.mark.parametrize("chain", [CHAIN, EVALUATION], ids=["retrain", "evaluate"])
def test_each_stage_reads_what_stands_before_it(chain):
    before = {"champion"} if chain is EVALUATION else set()
    for stage in chain:
        assert set(stage.reads) <= before, f"{stage.name} comes before a stage that it reads"
        before.add(stage.name)


@pytest.mark.parametrize("stage", [*CHAIN, rescore], ids=lambda stage: stage.name)
def test_the_function_of_a_stage_takes_what_the_stage_reads(stage):
    parameters = list(inspect.signature(stage.build).parameters.values())[2:]
    required = {each.name for each in parameters if each.default is each.empty} - CONTEXT
    assert required == set(stage.reads)
    assert {each.name for each in parameters} - CONTEXT - required <= {"start"}


def test_every_stage_finds_its_settings():
    run = describe_run(RetrainConfig(), Settings())
    for stage in (*CHAIN, rescore):
        assert stage.config(run) is run.settings[stage.settings or stage.name]


def test_only_what_a_stage_needs_runs_for_it():
    assert [stage.name for stage in needed_for(CHAIN, clean)] == ["download", "parse", "clean"]
    assert needed_for(DATA, train) == ()


def test_a_stage_that_is_not_used_is_neither_planned_nor_run(tmp_path):
    unused = Stage("unused", quiet, settings="knobs", is_used=lambda config: False)
    run = context_of(tmp_path)
    assert [stage.name for stage in plan_chain(run, (unused, QUIET))[0]] == ["quiet"]
    assert list(run_chain(run, (unused, QUIET), in_flow=False)) == ["quiet"]
