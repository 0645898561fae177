from concurrent.futures import ThreadPoolExecutor

from corpus.contract.accepted import Accepted, accepted_file, read_accepted, write_accepted
from corpus.contract.figures import PARTS, Figures

NOTHING = [0] * PARTS
FIGURES = Figures(
    format=1,
    conversations=NOTHING,
    turns=NOTHING,
    characters=NOTHING,
    words=NOTHING,
    turns_per_conversation=[[0]] * PARTS,
    characters_per_turn=[[0]] * PARTS,
    word_counts={"a": NOTHING},
    empty_turns=0.0,
    repeated_conversations=0.0,
)


def accepted(run):
    return Accepted(
        run=run, date="2026-11-28", settings={"clean": {"normalisation": "plain"}}, figures=FIGURES
    )


def test_what_was_accepted_last_is_read_back(tmp_path):
    file = accepted_file(tmp_path, "repartee", "talk.csv")
    assert read_accepted(file) is None
    for run in ("first", "second"):
        write_accepted(file, accepted(run))
    assert read_accepted(file) == accepted("second")


def test_a_line_and_a_corpus_have_their_own_file_and_a_password_changes_nothing(tmp_path):
    files = {
        accepted_file(tmp_path, line, corpus)
        for line in ("repartee", "support bot")
        for corpus in ("a.csv", "b.csv", "https://ann:1@example.com/a.csv", "https://ann:2@example.com/a.csv")
    }
    assert len(files) == 6
    assert all(file.parent == tmp_path / "contracts" for file in files)


def test_the_rest_of_a_process_that_was_killed_while_writing_is_harmless(tmp_path):
    file = accepted_file(tmp_path, "repartee", "talk.csv")
    write_accepted(file, accepted("first"))
    file.with_suffix(".tmp").write_text('{"run": "half')
    assert read_accepted(file) == accepted("first")
    write_accepted(file, accepted("second"))
    assert read_accepted(file) == accepted("second")


def test_processes_that_write_at_the_same_time_leave_a_complete_file(tmp_path):
    file = accepted_file(tmp_path, "repartee", "talk.csv")
    names = [f"run {i}" for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: write_accepted(file, accepted(name)), names))
    found = read_accepted(file)
    assert found and found.run in names


def test_a_damaged_file_is_reported_and_counts_as_none(tmp_path, caplog):
    file = accepted_file(tmp_path, "repartee", "talk.csv")
    write_accepted(file, accepted("first"))
    file.write_text("{")
    assert read_accepted(file) is None
    assert "cannot be read" in caplog.text
