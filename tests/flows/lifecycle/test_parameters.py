"""What the dashboard's form gives is the configuration that the command line gives."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.transfer.guard import Reach
from flows.lifecycle import context, parameters
from flows.lifecycle.context import check_sources, reach_of
from flows.lifecycle.parameters import of_config, to_config
from flows.prepare import prepare
from flows.recipes import RECIPES, configure
from flows.retrain import retrain
from models.errors import InputError
from settings import Settings

CHANGES = st.lists(
    st.sampled_from(
        [
            "train.max_minutes=null",
            "train.max_minutes=3",
            "train.learning_rate=0.25",
            "network.width=64",
            "gate.promote=never",
            "generation.seed=4",
            "clean.normalisation=article",
        ]
    ),
    max_size=4,
)


@given(st.sampled_from(sorted(RECIPES)), st.sampled_from([None, "cornell", "/a/b:c.zip"]), CHANGES)
def test_a_configuration_comes_back_from_its_parameters(recipe, corpus, changes):
    config = configure(recipe, corpus, changes)
    given_back = retrain.validate_parameters(of_config(config))
    assert to_config(**given_back) == config


def test_the_parameters_name_only_what_differs_from_the_recipe():
    assert of_config(configure("small", None, [])) == {"recipe": "small", "promote": "auto"}
    changed = of_config(configure("small", "sample", ["train.max_minutes=2", "network.width=64"]))
    assert changed == {
        "recipe": "small",
        "promote": "auto",
        "corpus": "sample",
        "minutes": 2,
        "changes": {"network": {"width": 64}},
    }


def test_every_field_of_the_form_says_what_it_is():
    schema = retrain.parameters.model_dump()
    groups = [schema["properties"], *(part["properties"] for part in schema["definitions"].values())]
    assert all(field.get("description") for field in schema["properties"].values())
    assert schema["definitions"]["TrainConfig"]["properties"]["batch_tokens"]["description"]
    assert len(groups) > 8


def test_values_that_do_not_fit_together_are_refused_by_name():
    changes = parameters.Changes.model_validate({"network": {"width": 30}})
    with pytest.raises(InputError, match=r"changes: network: .*width 30 is not a multiple of n_head 4"):
        to_config("small", changes=changes)


def test_what_nobody_touched_in_the_form_is_null_and_stays_as_the_recipe_has_it():
    untouched = dict.fromkeys(("download", "network", "generation"))
    touched = {"train": {"max_minutes": None, "learning_rate": 0.5, "max_steps": "none"}}
    given = retrain.validate_parameters({"recipe": "quick", "changes": {**untouched, **touched}})
    assert to_config(**given) == configure("quick", None, ["train.learning_rate=0.5"])


@pytest.mark.parametrize("corpus", ["/etc/passwd", "../x.zip", "~/x.zip", "ftp://a/b.zip"])
def test_a_deployed_run_reads_no_file_outside_of_the_home(corpus, tmp_path, monkeypatch):
    check_sources(corpus, "scratch", tmp_path)  # the user of the command line may read any file
    monkeypatch.setattr(context.deployment, "id", "4", raising=False)
    with pytest.raises(InputError, match="files under REPARTEE_HOME"):
        check_sources(corpus, "scratch", tmp_path)
    for fine in ("cornell", "https://a/b.zip", str(tmp_path / "x.zip")):
        check_sources(fine, "scratch", tmp_path)


def test_a_deployed_run_begins_with_no_model_outside_of_the_home(tmp_path, monkeypatch):
    monkeypatch.setattr(context.deployment, "id", "4", raising=False)
    with pytest.raises(InputError, match=r"start\.init '/etc': .* under REPARTEE_HOME; put it there"):
        check_sources("cornell", "/etc", tmp_path)
    check_sources("cornell", "champion", tmp_path)


@pytest.mark.parametrize("flow", [retrain, prepare], ids=lambda flow: flow.name)
def test_the_deployed_flows_check_their_sources_before_anything_is_read(flow, tmp_path, monkeypatch):
    monkeypatch.setattr(context.deployment, "id", "4", raising=False)
    for name in ("corpus", "model"):
        given = {"corpus": "/etc/passwd"} if name == "corpus" else {"changes": {"start": {"init": "/etc"}}}
        with pytest.raises(InputError, match="under REPARTEE_HOME"):
            flow.fn(**flow.validate_parameters(given))
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("corpus", "is_taken"),
    [
        ("cornell", True),
        ("uploads/films.zip", True),
        ("https://h.org:8443/@me/films.zip", True),
        ("HTTP://h.org", True),
        ("env:REPARTEE_CORPUS_FILMS", True),
        ("https://h.org/films.zip?token=s3cr3t", False),
        ("https://me:s3cr3t@h.org/films.zip", False),
        ("https://h.org/films.zip#s3cr3t", False),
        ("env:MLFLOW_TRACKING_PASSWORD", False),
        ("file:///etc/passwd", False),
    ],
)
def test_the_form_takes_no_address_that_may_hold_a_secret(corpus, is_taken):
    """The server compares it before it stores the parameters."""
    schema = retrain.parameters.model_dump()
    patterns = [
        schema["properties"]["corpus"]["pattern"],
        schema["definitions"]["DownloadConfig"]["properties"]["corpus"]["pattern"],
    ]
    assert [bool(re.search(pattern, corpus)) for pattern in patterns] == [is_taken] * 2


def test_a_flow_that_is_called_with_a_query_says_where_it_belongs():
    with pytest.raises(InputError, match=r"Prefect stores .*env:REPARTEE_CORPUS_NAME") as error:
        to_config("small", "https://h.org/films.zip?token=s3cr3t")
    assert "s3cr3t" not in str(error.value)
    config = configure("small", "https://h.org/films.zip?token=s3cr3t", [])
    assert "s3cr3t" not in str(of_config(config)) and to_config(**of_config(config)) == config


def test_a_run_that_a_deployment_began_reaches_public_hosts_and_those_of_the_setting(monkeypatch):
    monkeypatch.setenv("REPARTEE_DOWNLOAD_HOSTS", "files.example, 10.0.0.0/8")
    assert not reach_of(Settings()).public_only
    monkeypatch.setattr(context.deployment, "id", "4", raising=False)
    assert reach_of(Settings()) == Reach(public_only=True, allowed=("files.example", "10.0.0.0/8"))
    monkeypatch.setenv("REPARTEE_DOWNLOAD_HOSTS", "10.0.0.0/40")
    with pytest.raises(InputError, match="is not a network"):
        reach_of(Settings())
