"""Tables: artifacts of a run in the format that MLflow's pages display as tables."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.registry.runs import Tracking
from models.registry.tags import LOGGED_ARTIFACTS

if TYPE_CHECKING:
    from mlflow import MlflowClient

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

    def read_artifact(self, run_id: str, path: str) -> str | None:
        """The content of a text artifact of a run; None if there is no such run or artifact.

        Raises:
            TrackingUnavailable, InputError: MLflow cannot be used; the method `reading` lists the cases.
        """
        folder, _, _ = path.rpartition("/")

        def read(client: "MlflowClient") -> str | None:
            if path not in [each.path for each in client.list_artifacts(run_id, folder or None)]:
                return None
            with tempfile.TemporaryDirectory() as scratch:
                return Path(client.download_artifacts(run_id, path, scratch)).read_text()

        return self.find_or_none(read)

    def read_table(self, run_id: str, path: str) -> list[dict[str, Any]]:
        """The rows of a table that `log_tables` has written; empty if there is no such table."""
        text = self.read_artifact(run_id, path)
        if text is None:
            return []
        table = json.loads(text)
        return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
