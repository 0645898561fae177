"""All figures of the training in one table, measured now or found: benchmarks/training.py and quality.py.

python -m benchmarks.table CORPUS --out FOLDER [--minutes 10] [--seeds 3]
    needs the extra `benchmarks`; 140 minutes of a quiet machine with two cores

FOLDER gets a file for each run that has ended, so that the same command goes on where it was
stopped, table.md and quality.png.
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
    # A rate of tokens needs a tenth of the time that a model needs to become good.
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
