"""Inspection: the facts about a corpus as readable text."""

import re
import textwrap
from typing import TYPE_CHECKING, Any

from cli.terminal.tables import text_table
from deployments.disk import size_text
from models.quantities import count_text

if TYPE_CHECKING:  # these modules load pyarrow, which takes time before the first line
    from corpus.inspection.files import FileFacts
    from corpus.inspection.report import Inspection, Repetitions
    from flows.config import RetrainConfig
    from models.data.overview import SampleConversation

MAX_FILES = 20  # in the table of files
MAX_WARNINGS = 10
REPLY_CHARACTERS = 70
REPLACED = " replaced"  # the end of the names of the counts of personal data
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # they could control the terminal; line feeds stay
LOSS_SIGN = ">"


def opening_text(files: "list[FileFacts]") -> str:
    """The first facts: what each file is, by its beginning."""
    rows = [
        {
            "file": file.name,
            "size": size_text(file.size_bytes) if file.size_bytes >= 1000 else f"{file.size_bytes} bytes",
            "format": file.format or "not read",
            "encoding": file.encoding or "-",
            "evidence": f"it {file.problem}" if file.problem else file.evidence,
        }
        for file in files[:MAX_FILES]
    ]
    more = len(files) - MAX_FILES
    return _safe(text_table(rows) + (f"\nand {count_text(more, 'more files')}" if more > 0 else ""))


def report_text(found: "Inspection", config: "RetrainConfig", command: str) -> str:
    """All other facts; the last line is the command that trains on the corpus."""
    parts = [
        _counts(found, config),
        text_table(_role_rows(found)),
        text_table([{"length": name, **_length_row(each)} for name, each in found.lengths.items()]),
        _splits(found),
        _common_replies(found),
        _problems(found),
        *(_sample(number, sample) for number, sample in enumerate(found.samples, 1)),
        _rendered(found, config),
        _warnings(found),
        f"To train on this corpus:\n{command}",
    ]
    return _safe("\n" + "\n\n".join(part for part in parts if part))


def _counts(found: "Inspection", config: "RetrainConfig") -> str:
    unused = found.turns - found.usable_turns
    about = "" if found.is_exact else "about "
    largest = count_text(found.largest_group, "conversations")
    rows = [
        ("conversations", f"{found.conversations:,} ({found.usable_conversations:,} after cleaning)"),
        ("turns", f"{found.turns:,}" + (f" ({found.usable_turns:,} after cleaning)" if unused else "")),
        ("replies", f"{found.replies:,}: the turns that carry loss, which the model learns to write"),
        ("groups", f"{about}{found.groups:,}; the largest has {largest}"),
        ("repeated", f"conversations: {_repetitions(found.repeated_conversations)}"),
        ("", f"exchanges: {_repetitions(found.repeated_exchanges)}"),
        ("personal data", _personal_data(found, config)),
    ]
    if found.encodings:
        lines = ", ".join(f"{count:,} {name}" for name, count in found.encodings.items())
        rows.append(("lines", f"{lines} (by encoding)"))
    return "\n".join(f"{name:<15}{text}" for name, text in rows)


def _personal_data(found: "Inspection", config: "RetrainConfig") -> str:
    if config.cleaning.redaction == "none":
        return "not searched for (clean.redact=none)"
    replaced = {kind: count for kind, count in found.removed.items() if kind.endswith(REPLACED)}
    kinds = [f"{kind.removesuffix(REPLACED)}: {count:,}" for kind, count in replaced.items()]
    return f"{', '.join(kinds)}; a run replaces them" if kinds else "none found"


def _repetitions(found: "Repetitions") -> str:
    if not found.repeated:
        return "none occurs more than once"
    about = "" if found.is_exact else "about "
    copies = count_text(found.copies, "copies")
    return f"{about}{found.repeated:,} occur more than once, with {copies} beyond the first"


def _role_rows(found: "Inspection") -> list[dict[str, Any]]:
    rows = []
    for role, counts in found.roles.items():
        causes = counts["rejected"]
        left_out = sum(causes.values()) if isinstance(causes, dict) else 0
        rows.append({"role": role, **counts, "rejected": left_out})
    return rows


def _length_row(lengths: Any) -> dict[str, int]:
    return {"median": lengths.median, "90 %": lengths.ninety_percent, "longest": lengths.longest}


def _splits(found: "Inspection") -> str:
    first = "split" if found.is_exact else "split (estimates)"
    return text_table([{first: name, **each.model_dump()} for name, each in found.splits.items()])


def _common_replies(found: "Inspection") -> str:
    if not found.commonest_replies:
        return "no reply occurs more than once"
    rows = [
        {
            "count": reply.count,
            "share": f"{reply.share:.1%}",
            "commonest replies": textwrap.shorten(reply.text, REPLY_CHARACTERS, placeholder="..."),
        }
        for reply in found.commonest_replies
    ]
    return text_table(rows)


def _problems(found: "Inspection") -> str:
    rows: list[dict[str, Any]] = [
        {"lines": each.count, "cannot be used": each.cause, "first": ", ".join(each.first)}
        for each in found.problems
    ]
    cleaned = [
        {"count": count, "in cleaning": kind}
        for kind, count in found.removed.items()
        if not kind.endswith(" read")
    ]
    read = f"{found.lines_read:,} lines or records were read; "
    problems = f"{read}these cannot be used:\n{text_table(rows)}" if rows else f"{read}all can be used"
    return "\n\n".join([problems, *([text_table(cleaned)] if cleaned else [])])


def _sample(number: int, sample: "SampleConversation") -> str:
    from models.data.overview import sample_lines

    text = textwrap.indent("\n".join(sample_lines(sample)), "  ")
    return f"sample {number}: {sample.id} ({sample.split})\n{text}"


def _rendered(found: "Inspection", config: "RetrainConfig") -> str:
    """A conversation as the model reads it. A sign marks the loss, because not every terminal has colours."""
    if not found.as_the_model_reads_it:
        return ""
    lines = [f"One of them as the model reads it. The tokens of the replies ({LOSS_SIGN}) carry loss:"]
    for sequence in found.as_the_model_reads_it:
        lines += [f"  {LOSS_SIGN if turn.carries_loss else ' '} {turn.text}" for turn in sequence]
    if weight := config.train.context_loss:
        lines.append(f"In training, the other lines carry loss, too: train.context_loss={weight:g}.")
    if config.vocabulary.kind == "pretrained":
        lines.append("The chat template of the pretrained model replaces <start> and <end>.")
    return "\n".join(lines)


def _warnings(found: "Inspection") -> str:
    lines = [f"warning: {warning}" for warning in found.warnings[:MAX_WARNINGS]]
    more = len(found.warnings) - MAX_WARNINGS
    return "\n".join([*lines, *([f"and {count_text(more, 'more warnings')}"] if more > 0 else [])])


def _safe(text: str) -> str:
    """The text without characters that could control the terminal, because a corpus is not trusted."""
    return CONTROL.sub("?", text)
