"""Columns: settings that name the columns of a table, or the keys of an object, whose names are unusual."""

from collections.abc import Iterator
from typing import Any

from corpus.readers.json_values import Malformed, Record
from corpus.readers.tables import column_name
from models.config import Config


class Columns(Config):
    """Names of a source's own columns (or JSON keys). An empty name: the column is recognised by its name."""

    text: str = ""
    """The column with the text of a turn, in a table with one turn per row."""
    speaker: str = ""
    """The column with the speaker or the role."""
    conversation: str = ""
    """The column with the id of the conversation."""
    turn: str = ""
    """The column that numbers the turns of a conversation, or that holds their times."""
    group: str = ""
    """The column with what is never divided between splits, such as a film or a customer."""
    question: str = ""
    """The column with the question, in a table with one exchange per row."""
    answer: str = ""
    """The column with the answer to the question."""
    messages: str = ""
    """The column or key with the list of messages, if each record is a whole conversation."""

    def renamed_keys(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with the names by which the readers know the columns."""
        known = {"conversation": "conversation_id"}
        for field, own in self.model_dump().items():
            name = own if own in row else column_name(own)
            key = known.get(field, field)
            if own and name in row:
                row = {key: row[name], **{k: v for k, v in row.items() if k not in (name, key)}}
        return row

    def renamed(self, records: Iterator[Record | Malformed]) -> Iterator[Record | Malformed]:
        """The records with the names by which the readers know their columns."""
        if not any(self.model_dump().values()):
            return records
        return (
            record._replace(value=self.renamed_keys(record.value))
            if isinstance(record, Record) and isinstance(record.value, dict)
            else record
            for record in records
        )
