"""Lines that are longer than the terminal is wide."""

import pytest

from models.wrapping import wrapped

STATUS = (
    "  champion  repartee v1 since 2026-11-29 00:03 UTC (41 minutes), quick on sample, 0.0743 bits per byte\n"
    "  mlflow    http://127.0.0.1:5000/#/experiments?workflowType=machine_learning (process 4711)"
)


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_no_word_is_broken_and_a_text_continues_below_its_beginning(columns: int) -> None:
    lines = wrapped(STATUS, columns).split("\n")
    assert " ".join(" ".join(lines).split()) == " ".join(STATUS.split())
    assert all(len(line) <= columns or "http" in line for line in lines)
    continued = [line for line in lines if not line.startswith(("  champion", "  mlflow"))]
    assert all(line.startswith(" " * 12) and line[12] != " " for line in continued)


def test_a_text_that_fits_and_the_command_of_a_remedy_stay_as_they_are() -> None:
    remedy = f"         remedy: repartee run --recipe quick {'--set train.seed=1 ' * 5}"
    assert wrapped(f"a   b\n\n{remedy}", 60) == f"a   b\n\n{remedy}"


def test_an_address_longer_than_a_line_stays_whole() -> None:
    address = "http://127.0.0.1:5000/" + "x" * 80
    assert address in wrapped(f"the page is {address} now", 60).split("\n")[1]
    assert wrapped(f"  files       {address}", 60) == f"  files       {address}"
