"""The rows of docs/outages.md: what a command does if its server is dead or hung. Each row has a test.

`python tests/support/outages.py > docs/outages.md` writes the page.
"""

import sys
from dataclasses import dataclass

HEAD = """# When a server does not answer

A *dead* server has been killed (SIGKILL), so nothing listens at its address any more. A *hung* server has been
stopped (SIGSTOP), so it accepts a connection but sends nothing. "Prefect, the run's own" is the server that
`repartee run` starts if no server is configured. Each row is tested with a real server, in
`tests/deployments/test_mlflow_outages.py` or in `tests/deployments/test_prefect_outages.py`, and `make docs`
generates this page from the same rows.

| server | fault | since | exit status | outcome | message | the same command, once the server answers |
| --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Row:
    """One outage, and the behaviour that the page promises for it."""

    server: str
    fault: str  # dead or hung
    moment: str
    exit: int
    outcome: str  # in the output of --json; "" if the command is refused
    says: str  # a part of the outcome's reason, or of the line on standard error
    again: str

    def line(self) -> str:
        outcome = f"`{self.outcome}`" if self.outcome else "none"
        cells = (self.server, self.fault, self.moment, str(self.exit), outcome, self.says, self.again)
        return f"| {' | '.join(cells)} |\n"


KEPT = "does not answer ... the trained model is kept, and this command registers it"
REUSES = "reuses the training: `promoted`"
MLFLOW = [
    Row("MLflow", fault, moment, 0, "trained_not_registered", KEPT, REUSES)
    for moment in (
        "the start of `run`",
        "the training of `run`",
        "the gate of `run`",
        "the registration of `run`",
        "the promotion of `run`",
    )
    for fault in ("dead", "hung")
] + [
    Row("MLflow", fault, f"the start of `{verb}`", 2, "", "does not answer ... start it", "answers")
    for verb in ("models", "chat")
    for fault in ("dead", "hung")
]
CONFIGURED, OWN = "Prefect, configured", "Prefect, the run's own"
UNKNOWN = "the end of this run is not recorded in Prefect"
RECORDED = "`unchanged`; the first run's end is recorded"
PREFECT = [
    *(
        Row(
            CONFIGURED,
            fault,
            "the start of `run`",
            2,
            "",
            "cannot be used ... unset PREFECT_API_URL",
            "`promoted`",
        )
        for fault in ("dead", "hung")
    ),
    Row(
        OWN, "dead", "the start of `run`", 0, "promoted", "this run is not recorded in Prefect", "`unchanged`"
    ),
    *(
        Row(server, fault, moment, 0, "promoted", UNKNOWN, RECORDED)
        for server, moment in (
            (CONFIGURED, "the training of `run`"),
            (OWN, "the training of `run`"),
            (OWN, "the registration of `run`"),
        )
        for fault in ("dead", "hung")
    ),
]
ROWS = [*MLFLOW, *PREFECT]


def page() -> str:
    return HEAD + "".join(row.line() for row in ROWS)


if __name__ == "__main__":
    sys.stdout.write(page())
