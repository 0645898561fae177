"""Draw a picture of a terminal (SVG) from a recording of its output.

script --quiet --return --command 'make run' recording
python docs/pictures/terminal.py recording --first 'train: epoch 4' > docs/pictures/run.svg
"""

import argparse
import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100
REWRITTEN = re.compile(r"[^\n]*\r\x1b\[K")  # a progress line, and the sequence that deletes it


def shown(recording: str) -> list[str]:
    """The lines that are on the screen at the end of a recording."""
    text = REWRITTEN.sub("", recording.replace("\r\n", "\n"))
    return [line for line in text.splitlines() if not line.startswith("Script ")]


def picture(lines: list[str], title: str) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text(line, style="bold" if line.startswith("$ ") else ""), highlight=False)
    svg = console.export_svg(title=title)
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # no fonts from the network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recordings", nargs="+", type=Path, help="recordings, in their order in the picture")
    parser.add_argument(
        "--first", default="", help="leave out the lines above the first line that has this text"
    )
    parser.add_argument("--title", default="repartee")
    arguments = parser.parse_args()
    lines = [line for path in arguments.recordings for line in shown(path.read_bytes().decode())]
    start = next((i for i, line in enumerate(lines) if arguments.first in line), 0)
    prompt = [line for line in lines[:start] if line.startswith("$ ")]
    sys.stdout.write(picture([*prompt, *(["  ..."] if start else []), *lines[start:]], arguments.title))


if __name__ == "__main__":
    main()
