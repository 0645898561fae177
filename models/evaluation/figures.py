"""The metrics of a model as a table for people, with words instead of the names of the metrics."""

from collections.abc import Mapping

from models.markdown import markdown_table

WORDS = {
    "test_bpb": "bits per byte (lower is better)",
    "test_perplexity": "perplexity (lower is better)",
    "test_accuracy": "accuracy",
    "test_majority_accuracy": "accuracy of always guessing the commonest token",
    "distinct_1": "distinct words",
    "distinct_2": "distinct pairs of words",
    "repetition": "replies that repeat themselves",
    "stopped_share": "replies that the model ended itself",
    "commonest_reply_share": "share of the commonest reply",
    "test_replies": "scored replies of the test split",
    "test_replies_in_all": "all replies of the test split",
    "test_bytes": "bytes of the scored replies",
    "parameters": "parameters",
}
"""The words for each metric that a report contains."""


def figure_table(
    figures: Mapping[str, float], champion: Mapping[str, float] | None = None, *, title: str = "champion"
) -> str:
    """Return metrics as a Markdown table, with a column for the champion's metrics if there are any.

    Args:
        title: the title of the champion's column.
    """
    if not champion:
        return markdown_table([{"figure": WORDS.get(key, key), "value": figures[key]} for key in figures])
    return markdown_table(
        [
            {"figure": WORDS.get(key, key), "this model": value, title: champion.get(key, "")}
            for key, value in figures.items()
        ]
    )
