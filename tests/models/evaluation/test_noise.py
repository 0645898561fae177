"""The measured noise between seeds, and the margin that the gate takes from it."""

import math

import pytest

from models.evaluation.noise import FILE, Machine, Noise, append_noise, find_noise

LAPTOP = Machine("cpu", "A Processor", "bf16", 1, 2)
SCORES = [1.50, 1.51, 1.52, 1.50, 1.51, 1.52, 1.50, 1.52]


def noise(key: str = "k", machine: Machine = LAPTOP, bpb: list[float] = SCORES) -> Noise:
    return Noise(
        at="2026-11-29T03:00:00+00:00", key=key, recipe="small", corpus="cornell", machine=machine, share=0.1, bpb=bpb
    )  # fmt: skip


def test_the_margin_is_that_of_the_difference_of_two_scores_doubled():
    mean = sum(SCORES) / 8
    by_hand = math.sqrt(sum((each - mean) ** 2 for each in SCORES) / 7)
    assert noise().deviation == pytest.approx(by_hand)
    assert noise().margin == pytest.approx(2 * math.sqrt(2) * by_hand)


def test_the_newest_measurement_of_the_same_settings_and_kind_of_machine_counts(tmp_path):
    append_noise(tmp_path, noise())
    append_noise(tmp_path, noise(bpb=[1.0, 1.1]))
    append_noise(tmp_path, noise(key="other"))
    append_noise(tmp_path, noise(machine=LAPTOP._replace(precision="fp32")))
    found = find_noise(tmp_path, "k", LAPTOP)
    assert found is not None and found.bpb == [1.0, 1.1] and found.machine == LAPTOP


@pytest.mark.parametrize("change", [{"processor": "B"}, {"threads": 2}, {"workers": 1}, {"device": "cuda"}])
def test_on_another_kind_of_machine_nothing_is_measured_yet(tmp_path, change):
    append_noise(tmp_path, noise())
    assert find_noise(tmp_path, "k", LAPTOP._replace(**change)) is None
    assert find_noise(tmp_path, "another recipe", LAPTOP) is None
    assert find_noise(tmp_path / "another home", "k", LAPTOP) is None


def test_a_line_that_a_killed_process_left_unfinished_spoils_no_other_line(tmp_path):
    append_noise(tmp_path, noise())
    with (tmp_path / "decisions" / FILE).open("ab") as file:
        file.write(b'{"at": "2026')
    append_noise(tmp_path, noise(bpb=[1.0, 1.1]))
    found = find_noise(tmp_path, "k", LAPTOP)
    assert found is not None and found.bpb == [1.0, 1.1]


def test_the_kind_of_machine_is_named_in_words():
    assert LAPTOP.text() == "A Processor, bf16, 1 x 2 threads"
    assert Machine("cpu", "", "fp32", 4, 1).text() == "cpu, fp32, 4 threads"


def test_a_measurement_in_another_precision_counts_if_there_is_none_in_the_same(tmp_path):
    other = LAPTOP._replace(precision="fp32")
    append_noise(tmp_path, noise(bpb=[1.0, 1.1]))
    assert find_noise(tmp_path, "k", other).bpb == [1.0, 1.1]
    append_noise(tmp_path, noise(bpb=[1.0, 1.2], machine=other))
    append_noise(tmp_path, noise(bpb=[1.0, 1.3]))
    assert find_noise(tmp_path, "k", other).bpb == [1.0, 1.2]
    assert find_noise(tmp_path, "k", LAPTOP).bpb == [1.0, 1.3]
