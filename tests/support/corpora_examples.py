"""The examples of docs/corpora.md, and the texts of the conversations in each of them."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "corpora.md").read_text()
EXAMPLES = dict(re.findall(r"^`([\w.]+)`[^`\n]*:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
(SCRIPT,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

BREAD, CLOSING = ["Do you have bread?", "Yes."], ["When do you close?", "At six."]
EXPECTED = {
    "messages.jsonl": [BREAD, ["When do you close?", "At six.", "Today?", "Today at eight."]],
    "sharegpt.json": [BREAD, CLOSING],
    "topical_chat.json": [["Do you like rye bread?", "Very much."], ["Who bakes it?", "My aunt does."]],
    "taskmaster.json": [["A coffee, please.", "With milk?"]],
    "lists.json": [[*BREAD, "How many loaves?"], CLOSING],
    "exchanges.jsonl": [BREAD, CLOSING],
    "alpaca.json": [["Translate to German. bread", "Brot"], CLOSING],
    "turns.jsonl": [BREAD, CLOSING],
    "exchanges.csv": [BREAD, ["When do you close?", "At six, as every day."]],
    "turns.csv": [BREAD, CLOSING],
    "other_names.csv": [BREAD],
    "utterances.jsonl": [
        ["Where do you buy bread?", "At the market."],
        ["Where do you buy bread?", "I bake it myself."],
    ],
    "script.txt": [["Do you have bread?", "Yes, it came out of the oven at seven."], CLOSING],
    "export.txt": [BREAD, CLOSING],
}

MESSAGES, EXCHANGES, TURNS = (f"one {what} per record" for what in ("conversation", "exchange", "turn"))
FORMATS = {
    "messages.jsonl": f"JSON Lines, {MESSAGES}",
    "sharegpt.json": f"JSON, {MESSAGES}",
    "topical_chat.json": f"JSON, {MESSAGES}",
    "lists.json": f"JSON, {MESSAGES}",
    "exchanges.jsonl": f"JSON Lines, {EXCHANGES}",
    "alpaca.json": f"JSON, {EXCHANGES}",
    "turns.jsonl": f"JSON Lines, {TURNS}",
    "exchanges.csv": f"CSV, {EXCHANGES}",
    "turns.csv": f"CSV, {TURNS}",
    "utterances.jsonl": f"JSON Lines, {TURNS}",
    "script.txt": "plain text, one turn per line",
    "export.txt": "plain text, one turn per line",
}
"""The format that is named for each example."""
