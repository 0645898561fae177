"""The dashboard's form and the command line result in the same configuration."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.utilities.schema_tools import validate

from corpus.transfer.guard import Reach
from deployments.deploy import simple_schema
from flows.config import RetrainConfig
from flows.lifecycle import context
from flows.lifecycle.context import check_deployable, open_run, reach_of, with_absolute_checks
from flows.lifecycle.parameters import of_config, to_config, without_changes
from flows.prepare import prepare
from flows.recipes import RECIPES, configure
from flows.reevaluate import evaluate
from flows.retrain import retrain
from models.errors import InputError
from settings import Settings

TEXTS = st.text(alphabet=' ,="[]{}\\\r\n\té漢1:.-', min_size=1, max_size=9) | st.text(min_size=1)
VALUES = {
    "train.max_minutes": st.none() | st.floats(min_value=1e-9, allow_infinity=False),
    "train.max_steps": st.none() | st.integers(min_value=1),
    "train.learning_rate": st.floats(min_value=1e-9, max_value=1),
    "train.seed": st.integers(),
    "train.processes": st.sampled_from(["auto", 2]),
    "gate.promote": st.sampled_from(["auto", "never", "always"]),
    "generation.seed": st.none() | st.integers(),
    "generation.stop": st.lists(TEXTS, max_size=3) | TEXTS,
    "clean.normalisation": st.sampled_from(["plain", "article"]),
    "clean.redact": st.sampled_from(["auto", "personal"]),  # in an older form, "none" was null
    "start.init": TEXTS.filter(lambda text: "://" not in text and not text.lower().startswith("http")),
}
CHANGES = st.lists(
    st.sampled_from(sorted(VALUES)).flatmap(lambda key: st.tuples(st.just(key), VALUES[key])), max_size=5
)
CORPORA = st.sampled_from([None, "cornell", "/a/b:c.zip", "/a, b/=é.zip"])


@given(st.sampled_from(sorted(RECIPES)), CORPORA, CHANGES)
def test_a_configuration_comes_back_from_its_parameters(recipe, corpus, changes):
    config = configure(recipe, corpus, [f"{key}={json.dumps(value)}" for key, value in changes])
    parameters = of_config(config)
    assert to_config(**parameters) == config
    assert to_config(**retrain.validate_parameters(parameters)) == config
    assert to_config(**json.loads(json.dumps(parameters))) == config, "as the server stores them"


def test_the_parameters_name_only_what_differs_from_the_recipe():
    assert of_config(configure("small", None, [])) == {"recipe": "small"}
    texts = ["train.max_minutes=2", "train.seed=5", "gate.promote=never", "network.width=64"]
    assert of_config(configure("small", "sample", [*texts, "train.max_steps=9"])) == {
        "recipe": "small",
        "corpus": "sample",
        "minutes": 2,
        "seed": 5,
        "promote": "never",
        "settings": "network.width=64, train.max_steps=9",
    }


def test_a_value_that_a_field_does_not_take_is_among_the_settings():
    texts = ["train.max_minutes=null", "train.seed=-1"]
    assert of_config(configure("small", None, texts)) == {
        "recipe": "small",
        "settings": "train.max_minutes=null, train.seed=-1",
    }
    assert of_config(configure("small", None, ["train.max_minutes=20000"])) == {
        "recipe": "small",
        "settings": "train.max_minutes=20000.0",
    }


@pytest.mark.parametrize("flow", [retrain, prepare, evaluate], ids=lambda flow: flow.name)
def test_a_field_that_may_stay_empty_is_a_plain_input_and_takes_null_as_well(flow):
    schema = simple_schema(flow.parameters.model_dump())
    assert not [name for name, field in schema["properties"].items() if "anyOf" in field]
    assert validate(dict.fromkeys(schema["properties"].keys() - {"recipe", "promote", "model"}), schema) == []
    assert validate({}, schema) == []


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        ({"minutes": 2.5, "seed": 3, "settings": "train.max_steps=3", "corpus": "cornell"}, True),
        ({"settings": "", "corpus": ""}, True),
        ({"minutes": 0}, False),
        ({"minutes": "long"}, False),
        ({"seed": 1.5}, False),
        ({"settings": "train.max_steps"}, False),
        ({"corpus": "file:///etc/passwd"}, False),
        ({"corpus": "cornell + corpora/mine one.jsonl=0.5"}, True),
        ({"corpus": "cornell=2\ncorpora/mine.jsonl"}, True),
        ({"corpus": "https://h.org/a.zip=0.5 + env:REPARTEE_CORPUS_A=2 + https://h.org/b =0.1"}, True),
        ({"corpus": "sample + https://h.org/b?redacted-01234567 =0.1"}, True),
        ({"corpus": "sample + https://h.org/b?token=s3cr3t"}, False),
        ({"corpus": "sample=0.5 + https://me:s3cr3t@h.org/b"}, False),
        ({"corpus": "sample\nfile:///etc/passwd"}, False),
        ({"corpus": "sample  +  " * 150 + ":"}, False),
        ({"corpus": "https://h.org/a =1 + " * 90 + ":"}, False),
    ],
)
def test_the_plain_inputs_keep_their_limits(given, is_taken):
    assert (validate(given, simple_schema(retrain.parameters.model_dump())) == []) == is_taken


@pytest.mark.parametrize(
    ("flow", "names"),
    [
        (retrain, ["recipe", "corpus", "minutes", "seed", "promote", "settings"]),
        (prepare, ["recipe", "corpus", "settings"]),
        (evaluate, ["model", "corpus"]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_form_asks_in_this_order_and_says_what_each_field_and_an_empty_one_mean(flow, names):
    fields = flow.parameters.model_dump()["properties"]
    assert sorted(fields, key=lambda name: fields[name]["position"]) == names
    for field in fields.values():
        description = " ".join(field["description"].split())
        assert description.endswith(".")
        assert field["default"] or "Empty: the " in description


def test_a_field_counts_more_than_the_same_setting_in_the_text():
    text = "train.seed=1, train.max_minutes=1, gate.promote=never, download.corpus=sample, train.max_steps=3"
    given = to_config("small", settings=text)
    assert given == configure("small", None, text.split(", "))
    fields = to_config("small", "cornell", 2, 7, "always", text)
    options = ["train.seed=7", "train.max_minutes=2", "gate.promote=always", "train.max_steps=3"]
    assert fields == configure("small", "cornell", options)


def test_values_that_do_not_fit_together_are_refused_by_name():
    with pytest.raises(InputError, match=r"^settings: network: width 30 is not a multiple of n_head 4"):
        to_config("small", settings="network.width=30")


def test_what_nobody_touched_in_the_form_is_null_and_stays_as_the_recipe_has_it():
    untouched = dict.fromkeys(("corpus", "minutes", "seed", "settings"))
    given = retrain.validate_parameters({"recipe": "quick", **untouched})
    assert to_config(**given) == RECIPES["quick"]
    assert to_config("quick", corpus="", settings="") == RECIPES["quick"]


def test_what_an_older_form_has_stored_gives_the_configuration_that_it_gave():
    untouched = dict.fromkeys(("download", "network", "generation"))
    touched = {"train": {"max_minutes": None, "learning_rate": 0.5, "max_steps": "none"}}
    stored = {"recipe": "quick", "changes": {**untouched, **touched, "evaluate": {"max_replies": "none"}}}
    wanted = configure("quick", None, ["train.learning_rate=0.5", "train.max_steps=null"])
    assert to_config(**retrain.validate_parameters(stored)) == wanted
    assert to_config(**prepare.validate_parameters(stored)) == wanted
    assert "changes" not in retrain.parameters.model_dump()["properties"]


@given(st.sampled_from(sorted(RECIPES)), CHANGES)
def test_parameters_of_an_older_form_mean_the_same_in_the_present_one(recipe, changes):
    nested = {}
    for key, value in changes:
        group, name = key.split(".")
        nested.setdefault(group, {})[name] = "none" if value is None else value
    stored = {"recipe": recipe, "changes": nested, "minutes": 5, "settings": "train.patience=3"}
    present = without_changes(stored)
    assert "changes" not in present
    assert to_config(**present) == to_config(**stored)
    assert without_changes(present) == present


def test_parameters_without_settings_stay_as_they_are():
    assert without_changes({"recipe": "base"}) == {"recipe": "base"}
    assert without_changes({"recipe": "base", "changes": None}) == {"recipe": "base"}
    assert without_changes({"changes": {"train": None, "gate": {"promote": None}}}) == {}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train": {"learning_rat": 1}}, "no key 'train.learning_rat', did you mean 'train.learning_rate'?"),
        ({"train": 5}, "no key 'train'"),
        ({"train": {"seed": {"a": 1}}}, "no key 'train.seed.a'"),
    ],
)
def test_a_wrong_setting_of_an_older_form_gets_the_sentence_of_the_present_one(changes, sentence):
    with pytest.raises(InputError, match=r"^settings: train") as error:
        to_config("small", changes=changes)
    assert sentence in str(error.value)


@pytest.mark.parametrize("corpus", ["/etc/passwd", "../x.zip", "~/x.zip", "ftp://a/b.zip"])
def test_a_deployed_run_reads_no_file_outside_of_the_home(corpus, tmp_path):
    with pytest.raises(InputError, match="files under REPARTEE_HOME"):
        check_deployable(corpus, "scratch", tmp_path)
    with pytest.raises(InputError, match="files under REPARTEE_HOME"):
        check_deployable(f"sample + {corpus}=0.5", "scratch", tmp_path)
    for fine in (
        "cornell",
        "https://a/b.zip",
        "hf:org/talk/en@v1 + cornell",
        f"cornell=0.5 + {tmp_path / 'x.zip'}",
    ):
        check_deployable(fine, "scratch", tmp_path)


def test_a_deployed_run_reads_no_checks_outside_of_the_home(tmp_path, monkeypatch):
    def absolute(checks):
        config = RetrainConfig(evaluate={"checks": checks})
        return with_absolute_checks(config, tmp_path).evaluate.checks

    with pytest.raises(InputError, match=r"evaluate\.checks '/etc/x': .* under REPARTEE_HOME; move the file"):
        absolute("/etc/x")
    (tmp_path / "checks.yaml").write_text("- {say: Hello., contains: hello}")
    monkeypatch.chdir(tmp_path)
    assert absolute("checks.yaml") == str(tmp_path / "checks.yaml")
    (tmp_path / "checks.yaml").write_text("- {say: Hello.}")
    with pytest.raises(InputError, match="has no condition"):
        absolute("checks.yaml")
    assert (absolute("auto"), absolute("none")) == ("auto", "none")


def test_a_deployed_run_begins_with_no_model_outside_of_the_home(tmp_path):
    with pytest.raises(InputError, match=r"start\.init '/etc': .* under REPARTEE_HOME; move the model there"):
        check_deployable("cornell", "/etc", tmp_path)
    check_deployable("cornell", "champion", tmp_path)


def test_on_the_command_line_a_user_may_read_any_file():
    open_run(to_config("quick", "/etc/passwd", settings="start.init=/etc"), Settings())


@pytest.mark.parametrize("flow", [retrain, prepare], ids=lambda flow: flow.name)
def test_the_deployed_flows_check_their_sources_before_anything_is_read(flow, tmp_path, monkeypatch):
    monkeypatch.setattr(context.deployment, "id", "4", raising=False)
    for name in ("corpus", "model"):
        given = {"corpus": "/etc/passwd"} if name == "corpus" else {"settings": "start.init=/etc"}
        state = flow.fn(**flow.validate_parameters(given))
        assert state.is_failed() and "under REPARTEE_HOME" in state.message
        with pytest.raises(InputError, match="under REPARTEE_HOME"):
            state.result()
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("corpus", "is_taken"),
    [
        ("", True),
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
    """The server checks the pattern before it stores the parameters."""
    schema = retrain.parameters.model_dump()
    assert bool(re.search(schema["properties"]["corpus"]["pattern"], corpus)) == is_taken


def test_a_flow_that_is_called_with_a_query_says_where_it_belongs():
    with pytest.raises(InputError, match=r"Prefect stores .*env:REPARTEE_CORPUS_NAME") as error:
        to_config("small", "https://h.org/films.zip?token=s3cr3t")
    assert "s3cr3t" not in str(error.value)
    with pytest.raises(InputError, match=r"Prefect stores .*env:REPARTEE_CORPUS_NAME") as error:
        to_config("small", settings="download.corpus=https://h.org/films.zip?token=s3cr3t")
    assert "s3cr3t" not in str(error.value)
    with pytest.raises(InputError, match=r"did you mean 'download\.corpus'") as error:
        to_config("small", settings="download.corpu=https://h.org/films.zip?token=s3cr3t")
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
