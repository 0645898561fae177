"""Runs benchmarks/training.py and benchmarks/quality.py, and prints all their results.

python -m benchmarks.table CORPUS --out FOLDER [--minutes 10] [--seeds 3]
    needs the extra `benchmarks`, and 140 minutes on an idle machine with two cores

The benchmark writes table.md, quality.png and a file for each finished run into FOLDER. If the benchmark is
stopped, the same command resumes it.
"""

import argparse
from pathlib import Path

from benchmarks import quality, training
from benchmarks.contest import table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table")
    parser.add_argument("corpus")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    # A run that measures tokens per second takes a tenth of the time of a run that measures quality.
    loop = training.measure(
        arguments.corpus, arguments.out, minutes=arguments.minutes / 10, repeats=arguments.seeds
    )
    worth = quality.measure(
        arguments.corpus,
        arguments.out,
        minutes=arguments.minutes,
        seeds=range(arguments.seeds),
        names=quality.NAMES,
    )
    markdown = "\n\n".join([table(training.rows(loop), loop), table(quality.rows(worth), worth)])
    (arguments.out / "table.md").write_text(markdown + "\n")
    print(markdown)


if __name__ == "__main__":
    main()
