"""The comparison of a version with the one that was trained again, as text for the terminal."""

from typing import Any

NOTHING = "nothing that is recorded has changed: settings, inputs, code, libraries and machine are the same"


def reproduction_text(result: dict[str, Any]) -> str:
    """Whether the weights are equal, and what has changed since the version was trained."""
    name = f"{result['line']} v{result['version']}"
    if result["outcome"] == "equal":
        weights = "; ".join(f"{file}, SHA-256 {digest[:12]}" for file, digest in result["weights"].items())
        lines = [f"{name} is reproduced: its weights are equal, bit by bit ({weights})"]
        notes = [text for stage in result["stages"] if (text := _note(stage))]
    else:
        stage = next(each for each in result["stages"] if each["name"] == result["stage"])
        lines = [f"{name} is not reproduced: {stage['name']} is the first stage whose output differs"]
        notes = [f"what has changed: {'; '.join(stage['changes']) or NOTHING}"]
        if stage["files"]:
            notes.append(f"files that differ: {', '.join(stage['files'])}")
    then, now = (commit[:8] for commit in result["commit"].values())
    if notes and then and then != now:
        notes.append(f"the code then was that of commit {then}; now it is that of {now}")
    return "\n".join([*lines, *(f"  {note}" for note in notes)])


def _note(stage: dict[str, Any]) -> str:
    """What has changed without a change of the weights; "" if nothing has."""
    changes = "; ".join(stage["changes"])
    if stage["status"] == "differs":
        reason = f" ({changes})" if changes else ""
        return f"{stage['name']} wrote other files{reason}, of which training reads none"
    return f"{stage['name']}: {changes}, but its output is equal" if changes else ""
