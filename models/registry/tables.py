"""Logs tables as artifacts of a run, in the format that MLflow's pages display as tables."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from models.registry.runs import Tracking
from models.registry.tags import LOGGED_ARTIFACTS

Rows = Sequence[Mapping[str, Any]]


class Tables(Tracking):
    """The tables of the runs of one experiment."""

    def log_tables(self, run_id: str, tables: Mapping[str, Rows]) -> None:
        """Write each table that has rows to a JSON file, whose path is the table's key in `tables`.

        All rows of a table must have the same keys. A second call replaces the files, whereas MLflow's own
        `log_table` would append the rows to the file.

        Raises:
            TrackingUnavailable, InputError: MLflow cannot be used; the method `writing` lists the cases.
        """
        shown = {path: rows for path, rows in tables.items() if rows}
        for path, rows in shown.items():
            content = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
            self.log_text(run_id, json.dumps(content, ensure_ascii=False), path)
        with self.reading() as client:
            listed = json.loads(client.get_run(run_id).data.tags.get(LOGGED_ARTIFACTS, "[]"))
        entries = [{"path": path, "type": "table"} for path in shown]
        listed += [entry for entry in entries if entry not in listed]
        self.log_tags(run_id, {LOGGED_ARTIFACTS: json.dumps(listed)})
