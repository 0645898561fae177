"""The command as a user sees it: its output, its exit status, and its errors for each kind of bad input."""

import json
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from corpus.sample.generator import write_corpus

ROOT = Path(__file__).resolve().parents[2]


def repartee(*words, home, **environment):
    command = [sys.executable, "-m", "cli", *map(str, words)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "REPARTEE_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )


def write_corpus_into(folder):
    folder.mkdir()
    write_corpus(folder, turns=200, seed=1)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """A valid corpus, and corpora that cannot be used, each for a different reason."""
    folder = tmp_path_factory.mktemp("corpora")
    (folder / "page.zip").write_text("<!DOCTYPE html><html>Not found</html>")
    (folder / "text.zip").write_text("hello")
    with zipfile.ZipFile(folder / "other.zip", "w") as archive:
        archive.writestr("readme.md", "no corpus here")
    write_corpus_into(folder / "good")
    with zipfile.ZipFile(folder / "good.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in (folder / "good").iterdir():
            archive.write(path, f"corpus folder/{path.name}")
    (folder / "cut.zip").write_bytes((folder / "good.zip").read_bytes()[:2000])
    for name, lines in (("empty", 0), ("one", 1)):
        (folder / name).mkdir()
        order = (folder / "good" / "movie_conversations.txt").read_text().splitlines(keepends=True)
        (folder / name / "movie_conversations.txt").write_text("".join(order[:lines]))
        said = (folder / "good" / "movie_lines.txt").read_text() if lines else ""
        (folder / name / "movie_lines.txt").write_text(said)
    (folder / "nothing").mkdir()
    (folder / "start").mkdir()  # a model that was not trained by Repartee
    (folder / "start" / "config.json").write_text("{}")
    return folder


def test_help_answers_at_once_and_names_every_verb(tmp_path):
    took_s = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = repartee("--help", home=tmp_path)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert done.returncode == 0
    assert min(took_s) < 0.5, "in processor time, because the machine may be busy"
    for verb in ("run", "prepare", "plan", "chat", "models", "evaluate", "corpus"):
        assert verb in done.stdout


def test_a_terminal_declared_as_ascii_may_send_and_be_shown_any_character():
    program = "import sys; from cli.terminal import encoding; encoding.accept_any_character(); print(len(sys.stdin.read()), '\\xe9\\udcff')"
    ascii_only = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **ascii_only},
        input="hé👍".encode(),
        capture_output=True,
        timeout=900,
    )
    assert (done.stdout, done.stderr) == (b"3 ??\n", b"")


def test_a_name_that_is_not_utf8_is_refused_and_one_that_is_works_in_any_locale(tmp_path):
    """Prefect and MLflow store names as UTF-8; in an ASCII locale Python decodes `ü` as two surrogates."""
    folder = tmp_path / "ü"
    write_corpus_into(folder)
    ascii_only = {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    done = repartee("plan", "--corpus", folder, "--json", home=tmp_path / "home", **ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    done = repartee("plan", "--corpus", os.fsdecode(b"caf\xe9"), home=tmp_path / "home")
    assert done.returncode == 2
    assert done.stderr == (
        "repartee: 'caf\\udce9' is not valid UTF-8, so neither Prefect nor MLflow can record it; "
        "use a name in UTF-8\n"
    )


@pytest.mark.parametrize("words", [[], ["corpus"]])
def test_the_command_alone_shows_its_help_line_by_line(words, tmp_path):
    done = repartee(*words, home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == repartee(*words, "--help", home=tmp_path).stdout
    assert len(done.stdout.splitlines()) > 5


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run", "--corpus", "{c}/nowhere.zip"], "there is no such file or folder"),
        (["run", "--corpus", "cornel"], "did you mean 'cornell'?"),
        (["run", "--corpus", "ftp://example.org/x.zip"], "not supported"),
        (["plan", "--corpus", "{c}/page.zip"], "HTML"),
        (["plan", "--corpus", "{c}/text.zip"], "zip"),
        (["plan", "--corpus", "{c}/other.zip"], "other.zip holds readme.md, but no conversations"),
        (["plan", "--corpus", "{c}/cut.zip"], "cut.zip"),
        (["run", "--recipe", "smal"], "did you mean 'small'?"),
        (["run", "--set", "train.learning_rat=1"], "did you mean 'train.learning_rate'?"),
        (["run", "--set", "train.learning_rate=fast"], "valid number"),
        (["run", "--colour", "red"], "No such option: --colour"),
        (["corpus", "mak"], "No such command 'mak'"),
        (["run", "--corpus", "{c}/nothing"], "nothing holds no files: give a file, a folder or a zip"),
        (["chat", "--once", "Hello.", "--model", "~nosuchuser/x"], "no user 'nosuchuser'"),
        (["chat", "--once", "Hello.", "--model", "x" * 300], "File name too long"),
        (["run", "--init", "~nosuchuser/x"], "no user 'nosuchuser'"),
        (["chat", "--once", "Hello.", "--model", "7"], "no version"),
        (["chat", "--once", "Hello.", "--model", "{c}/good"], "not a model folder"),
        (["evaluate", "{c}/start"], "no repartee.json"),
        (["corpus", "make", "{c}/good"], "not empty"),
    ],
)
def test_bad_input_gets_one_line_with_the_remedy(words, line, corpora, tmp_path):
    done = repartee(*(word.format(c=corpora) for word in words), home=tmp_path / "home")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list((tmp_path / "home").glob("store/*/*")), "a partial output was left"


def test_a_home_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = repartee("plan", "--corpus", "sample", home=tmp_path / "file" / "home")
    assert done.returncode == 2
    assert "REPARTEE_HOME" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.flow
@pytest.mark.parametrize(
    ("name", "line"), [("empty", "are empty"), ("one", "1 conversations were read, of which 1 are usable")]
)
def test_a_corpus_without_enough_in_it_ends_before_training_with_the_counts(
    name, line, corpora, tmp_path, new_home
):
    done = repartee("run", "--recipe", "quick", "--corpus", corpora / name, "--json", home=new_home(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert line in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.flow
def test_a_full_disk_is_one_line_without_a_traceback(corpora, tmp_path):
    """A file size limit simulates the full disk: the write fails at the same point."""
    script = (
        "import resource, runpy, signal, sys;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        f"sys.argv = ['repartee', 'corpus', 'make', {str(tmp_path / 'made')!r}];"
        f"sys.path.insert(0, {str(ROOT)!r});"
        "runpy.run_module('cli', run_name='__main__')"
    )
    # -B: the limit would also truncate the interpreter's bytecode files and leave them behind.
    done = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, timeout=900)
    assert done.returncode == 2
    assert "the disk is full" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_generated_corpus_is_written_on_demand(tmp_path):
    done = repartee("corpus", "make", tmp_path / "made", "--turns", "300", home=tmp_path)
    assert done.returncode == 0
    assert len((tmp_path / "made" / "movie_lines.txt").read_text().splitlines()) >= 300


def test_plan_explains_every_stage_and_runs_none(tmp_path):
    done = repartee("plan", "--corpus", "sample", "--recipe", "quick", "--json", home=tmp_path)
    stages = json.loads(done.stdout)["stages"]
    names = ["download", "parse", "clean", "vocabulary", "export", "train", "evaluate", "gate", "register"]
    assert [stage["name"] for stage in stages] == names
    assert all(stage["action"] == "run" and stage["why"] for stage in stages)
    assert not list(tmp_path.glob("store/*/*"))
