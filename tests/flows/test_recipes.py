import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from corpus.cleaning.config import CleanConfig
from flows.config import RetrainConfig
from flows.lifecycle.parameters import as_trained, of_config, to_config
from flows.recipes import (
    RECIPES,
    changes_of,
    configure,
    configure_schedule,
    run_command,
    settings_page,
)
from flows.retrain import retrain
from models.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def test_a_change_reaches_its_knob_and_nothing_else():
    changed = configure("quick", "cornell", ["train.learning_rate=0.5", "train.max_minutes=null"])
    assert changed.train.learning_rate == 0.5
    assert changed.train.max_minutes is None
    assert changed.download.corpus == "cornell"
    assert changed.network == RECIPES["quick"].network


@pytest.mark.parametrize(
    ("corpus", "redact", "wanted"),
    [
        ("cornell", "auto", "none"),
        (" sample ", "auto", "none"),
        ("mail.csv", "auto", "personal"),
        ("cornell=1 + sample", "auto", "none"),
        ("env:REPARTEE_CORPUS_CORNELL", "auto", "personal"),
        ("cornell", "personal", "personal"),
        ("mail.csv", "none", "none"),
    ],
)
def test_the_corpus_decides_whether_personal_data_is_replaced_unless_the_setting_does(corpus, redact, wanted):
    config = configure("small", corpus, [f"clean.redact={redact}"])
    assert config.cleaning == config.clean.model_copy(update={"redact": wanted})
    changes = {} if redact == "auto" else {"clean.redact": redact}
    assert {key: value for key, value in changes_of(config).items() if key != "download.corpus"} == changes
    assert ("clean.redact" in run_command(config)) == bool(changes)
    assert to_config(**of_config(config)) == config


@pytest.mark.parametrize(
    ("recipe", "changes", "init", "wanted"),
    [
        ("small", [], None, "trunk"),
        ("tutorial", ["train.seed=3"], None, "trunk"),
        ("finetune", [], None, "scratch"),
        ("small", ["train.patience=3"], None, "scratch"),
        ("small", ["start.init=champion"], None, "champion"),
        ("small", [" start.init =scratch"], None, "scratch"),
        ("small", [], "scratch", "scratch"),
    ],
)
def test_a_schedule_goes_on_from_a_trunk_unless_the_options_say_otherwise(recipe, changes, init, wanted):
    config = configure_schedule(recipe, ["sample"], changes, init, "bot")
    assert (config.start.init, config.line) == (wanted, "bot")


def test_several_options_corpus_are_one_setting_that_can_be_given_again():
    config = configure("small", ["cornell", "mine.jsonl=0.5"], [])
    assert config.download.corpus == "cornell + mine.jsonl=0.5"
    assert configure("small", config.download.corpus, []) == config
    assert to_config(**of_config(config)) == config
    assert "--set 'download.corpus=cornell + mine.jsonl=0.5'" in run_command(config)
    assert configure("small", [], []) == configure("small", None, []) == RECIPES["small"]
    assert configure("small", ["cornell"], []) == RECIPES["small"]


def test_with_one_source_that_is_not_built_in_personal_data_is_replaced_in_all():
    assert configure("small", ["cornell", "mine.jsonl"], []).cleaning.redaction == "personal"
    assert configure("small", ["cornell", "sample"], []).cleaning.redaction == "none"


def test_a_weight_is_a_setting_of_the_stage_clean_and_not_of_the_download():
    half, third = (configure("small", ["cornell", f"mine.jsonl={w}"], []).by_stage() for w in (0.5, 0.3))
    assert half["download"] == third["download"]
    assert half["download"].corpus == "cornell + mine.jsonl"
    assert half["clean"].weights == {"cornell": 1, "mine": 0.5}
    assert {key for key in half if half[key] != third[key]} == {"clean"}


def test_the_stages_of_one_source_without_a_weight_have_the_settings_that_they_had():
    config = configure("small", "mine.jsonl", [])
    stages = config.by_stage()
    assert stages["download"] == config.download
    assert stages["clean"].model_dump().keys() == CleanConfig.model_fields.keys()
    assert configure("small", "mine.jsonl=0.5", []).by_stage()["download"] == config.download


def test_a_model_is_evaluated_on_text_that_is_redacted_as_its_training_text_was(tmp_path):
    info = {"normalisation": "article", "markup": {}}
    for redaction, written in (("none", {}), ("personal", {"redaction": "personal"})):
        (tmp_path / "repartee.json").write_text(json.dumps(info | written))
        config = as_trained(configure("small", "mail.csv", []), tmp_path)
        assert config.by_stage()["clean"] == CleanConfig(normalisation="article", redact=redaction)


@pytest.mark.parametrize(
    ("recipe", "changes", "line"),
    [
        (
            "smal",
            [],
            "there is no recipe 'smal', did you mean 'small'?; the recipes are quick, tutorial, small, base, "
            "finetune",
        ),
        ("small", ["train.learning_rat=1"], "did you mean 'train.learning_rate'?"),
        ("small", ["train.xyzzy=1"], "the keys of this group are train.learning_rate, train.optimizer"),
        ("small", ["xyzzy=1"], "the groups of keys are recipe, line, max_hours, start, download"),
        ("small", ["train.learning_rate=fast"], "--set train.learning_rate: input should be a valid number"),
        (
            "small",
            ["train.max_minutes=-1"],
            "--set train.max_minutes: input should be greater than 0, got -1",
        ),
        ("small", ["network.family=bert"], "'llama', 'gpt2', 'encoder-decoder' or 'pretrained', got 'bert'"),
        ("small", ["train.seed"], "write a setting as key.path=value"),
        ("small", ["train=1"], "no key 'train'"),
        ("small", ["recipe=smal"], "no recipe 'smal', did you mean 'small'?"),
        ("small", ["network.width=30"], "width 30 is not a multiple of n_head 4"),
        (
            "small",
            ["network.family=encoder-decoder"],
            "--set: network.family encoder-decoder reads only pairs of a context and a reply; set markup.unit",
        ),
        (
            "tutorial",
            ["markup.unit=conversation"],
            "--set: network.family encoder-decoder reads only pairs of a context and a reply; set markup.unit",
        ),
    ],
)
def test_a_wrong_recipe_key_or_value_gets_one_line_with_the_remedy(recipe, changes, line):
    with pytest.raises(InputError) as raised:
        configure(recipe, None, changes)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_start_is_a_setting_like_any_other():
    by_flag = configure("small", None, [], "champion")
    assert by_flag == configure("small", None, ["start.init=champion"])
    assert by_flag == to_config(**retrain.validate_parameters(of_config(by_flag)))
    assert by_flag.start.init == "champion" and configure("small", None, []).start.init == "scratch"


def test_an_unknown_key_of_a_dashboard_run_is_refused():
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        RetrainConfig.model_validate({"train": {"learning_rat": 1}})


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_knows_its_own_name(name):
    assert RECIPES[name].recipe == name


def test_every_knob_is_in_the_settings_page_as_it_is_declared():
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page()
