"""A model folder's default generation settings are written for transformers and read by the chat."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from models.generation.config import GenerationConfig
from models.generation.generation_config import FILE, read_generation, to_transformers


@given(
    st.builds(
        GenerationConfig,
        temperature=st.floats(0.01, 5),
        top_p=st.floats(0.01, 1),
        max_tokens=st.integers(1, 500),
        seed=st.none() | st.integers(0, 2**31),
        top_k=st.integers(0, 500),
        repetition_penalty=st.floats(0.1, 3),
        no_repeat_ngram=st.integers(0, 9),
        stop=st.lists(st.text(min_size=1), max_size=3).map(tuple),
    )
)
def test_what_is_written_for_transformers_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, config: GenerationConfig
) -> None:
    folder = tmp_path_factory.mktemp("model")
    (folder / FILE).write_text(json.dumps(to_transformers(config)))
    assert read_generation(folder) == config


def test_a_temperature_of_zero_is_a_choice_without_sampling(tmp_path: Path) -> None:
    written = to_transformers(GenerationConfig(temperature=0, seed=5))
    assert written["do_sample"] is False and "temperature" not in written
    (tmp_path / FILE).write_text(json.dumps(written))
    assert read_generation(tmp_path) == GenerationConfig(temperature=0, seed=5)


def test_what_a_folder_leaves_open_or_gives_wrong_is_our_default(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_generation(tmp_path) == GenerationConfig()
    (tmp_path / FILE).write_text(
        json.dumps({"top_k": 50, "top_p": 7, "max_new_tokens": None, "eos_token_id": 2})
    )
    assert read_generation(tmp_path) == GenerationConfig(top_k=50)
    assert "top_p is ignored" in caplog.text


@pytest.mark.parametrize("content", ["{", "3", ""])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(InputError, match=FILE):
        read_generation(tmp_path)
