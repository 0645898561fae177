"""The process that watches a training: no line of its files ends it, none is shown twice."""

import json
import subprocess
import sys
from pathlib import Path

from models.metrics_log import METRICS, Reader
from models.training.launch import follow

TRUNCATES = """
import json, sys, time

def write(mode, steps, at):
    with open(sys.argv[1], mode) as file:
        for step in steps:
            file.write(json.dumps({"kind": "step", "time": at, "step": step, "loss": 1.5}) + "\\n")

write("a", range(1, 40), 1)
time.sleep(1.5)
write("w", range(1, 4), 1)
write("a", range(4, 60), 1234567)  # longer than it was before anybody looks again
time.sleep(1)
open(sys.argv[1], "a").write('{"kind": "step", "st')
"""


def test_a_file_that_is_cut_and_grows_again_under_the_reader_is_followed_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    with subprocess.Popen([sys.executable, "-c", TRUNCATES, str(path)]) as process:
        lines = list(follow([Reader(path)], process))
    assert [line["step"] for line in lines] == list(range(1, 60))


def test_the_lines_of_an_earlier_run_are_not_shown_again(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    path.write_text(json.dumps({"kind": "epoch", "time": 1, "step": 9, "epoch": 1}) + "\n")
    reader = Reader(path)
    reader.skip()
    added = f'open({str(path)!r}, \'a\').write(\'{{"kind": "epoch", "time": 2, "step": 18, "epoch": 2}}\\n\')'
    with subprocess.Popen([sys.executable, "-c", added]) as process:
        assert [line["epoch"] for line in follow([reader], process)] == [2]
