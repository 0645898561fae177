from dataclasses import replace

from models.registry.description import MAX_CHARACTERS, RunReport, describe, without_spacers

REPORT = RunReport(
    outcome="promoted",
    reason="0.9000 bits per byte against champion v1's 1.0000",
    links={"previous champion v1": "#/models/m/versions/1", "run in Prefect": "http://prefect/runs/1"},
    figures="| figure | value |\n",
    training="Training: 700 steps in 90 s, ended by train.max_minutes=1.5.",
    picture="get-artifact?path=loss.png",
    replies=[("Hello.", "Hi | there."), ("Bye.", "x" * 500)],
    corpus="sample",
    splits=[{"split": "train", "turns": 12_000}],
    lines_read=24_000,
    rejected=3,
    command="repartee run --recipe quick",
    commit="abc123",
)


def test_a_description_begins_with_the_verdict_and_ends_with_the_command() -> None:
    lines = describe(REPORT).splitlines()
    assert lines[0] == "**Promoted**: 0.9000 bits per byte against champion v1's 1.0000"
    assert lines[2] == (
        "[previous champion v1](#/models/m/versions/1) | [run in Prefect](http://prefect/runs/1)"
    )
    assert "![Loss and accuracy of the training](get-artifact?path=loss.png)" in lines
    assert "| Hello. &emsp; | Hi \\| there. |" in lines, "MLflow leaves no space between columns"
    assert lines[lines.index("## Data") - 2] == "&emsp;", "MLflow leaves no space below a table"
    assert "| Hello. | Hi \\| there. |\n" in without_spacers(describe(REPORT))
    assert " |\n\n## Data\n" in without_spacers(describe(REPORT))
    assert lines[4] == "Training: 700 steps in 90 s, ended by train.max_minutes=1.5."
    assert "The corpus is `sample`. 24,000 lines were read, and 3 were rejected." in lines
    assert lines[-3:] == ["    repartee run --recipe quick", "", "The code is at commit `abc123`."]


def test_a_description_that_is_too_long_loses_replies_and_not_its_command() -> None:
    long = replace(REPORT, replies=[("Hello.", "first"), ("Bye.", "second")], reason="x" * 4_300)
    shortest = len(describe(replace(long, replies=[])))
    one = replace(long, reason="x" * (4_300 + MAX_CHARACTERS - shortest - 70))
    assert "first" in describe(one) and "second" not in describe(one)
    assert "repartee run --recipe quick" in describe(one)
    assert len(describe(replace(REPORT, reason="x" * 9_000))) == MAX_CHARACTERS


def test_a_long_reply_is_shortened() -> None:
    assert "x" * 157 + "..." in describe(REPORT) and "x" * 158 not in describe(REPORT)
