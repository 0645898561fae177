"""The error message for a wrong setting is the same on the command line and in the form, except that it names
the option or the field."""

import pytest
from typer.testing import CliRunner

from cli.app import app
from flows.lifecycle.parameters import to_config
from flows.recipes import configure
from flows.retrain import retrain
from models.errors import InputError

RIGHT = [
    "train.learning_rate=0.01",
    "train.max_epochs = 4",
    "train.max_steps=null",
    "train.processes=2",
    "start.init=/models/my model, the second",
    'generation.stop=["a, b", "c"]',
    'generation.stop="a, b"',
    "generation.stop=é",
    "clean.split_by=conversation",
    "download.corpus=sample",
]
WRONG = {
    "train.learning_rat=1": "train.learning_rat=1: there is no key 'train.learning_rat', "
    "did you mean 'train.learning_rate'?",
    "optimiser.kind=adamw": "optimiser.kind=adamw: there is no key 'optimiser.kind'; "
    "the groups of keys are recipe, line, max_hours, start",
    "train.xyzzy=1": "train.xyzzy=1: there is no key 'train.xyzzy'; "
    "the keys of this group are train.learning_rate, train.optimizer",
    "train=1": "train=1: there is no key 'train'",
    "train.seed": "train.seed: this text has no equals sign; write a setting as key.path=value, for instance "
    "train.max_minutes=5",
    "train.learning_rate=fast": "train.learning_rate: input should be a valid number",
    "train.max_steps=": "train.max_steps: input should be a valid integer",
    "train.max_minutes=-1": "train.max_minutes: input should be greater than 0, got -1 "
    "(docs/settings.md lists the settings)",
    "network.width=30": "network: width 30 is not a multiple of n_head 4",
    "network.family=encoder-decoder": "network.family encoder-decoder reads only pairs of a context and a reply",
}


def by_command(text):
    try:
        return configure("small", None, [text])
    except InputError as error:
        return str(error)


def by_form(text):
    try:
        return to_config("small", settings=text)
    except InputError as error:
        return str(error)


def in_form(text):
    """The setting in the notation of the form: a text that contains a comma is in double quotes."""
    key, _, value = text.partition("=")
    return f'{key}="{value}"' if "," in value and value[0] not in '["' else text


@pytest.mark.parametrize("text", RIGHT)
def test_a_right_setting_gives_the_same_configuration_in_both_places(text):
    assert not isinstance(by_command(text), str)
    assert by_form(in_form(text)) == by_command(text)


@pytest.mark.parametrize(("text", "sentence"), WRONG.items())
def test_a_wrong_setting_gets_the_same_sentence_in_both_places(text, sentence):
    command, form = by_command(text), by_form(text)
    assert command.startswith("--set") and form.startswith("settings: ")
    said = form.removeprefix("settings: ")
    assert said.startswith(sentence) and "\n" not in said
    assert command.removeprefix("--set").lstrip(": ") == said


@pytest.mark.parametrize(("text", "sentence"), WRONG.items())
def test_a_wrong_setting_beside_right_ones_is_the_one_that_is_named(text, sentence):
    assert by_form(f"train.max_epochs=4,\n{text},\ngeneration.seed=3").startswith(f"settings: {sentence}")


def test_the_command_ends_with_the_sentence_and_the_run_of_a_form_has_it_as_its_message():
    text = "train.learning_rat=1"
    done = CliRunner().invoke(app, ["plan", "--set", text])
    assert str(done.exception) == by_command(text)
    state = retrain.fn(**retrain.validate_parameters({"settings": text}))
    assert state.is_failed() and state.message == by_form(text)
