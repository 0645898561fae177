"""What has become of one conversation, as text for the terminal."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.provenance.conversation import ConversationFate, Turn


def conversation_text(fate: "ConversationFate") -> str:
    """The conversation as it was read and as it is used, and what was removed from it."""
    sections = [_section(f"{fate.id} as it was read", fate.as_read)]
    for part in fate.parts:
        sections.append(_section(f"{part.id} as it is used, in the {part.split} split", part.turns))
    if not fate.parts:
        sections.append("nothing of it is in the prepared data")
    removed = [f"  {reason}" for reason in fate.left_out]
    removed += [f"  {cause}: {count:,}" for cause, count in fate.counts.items()]
    removed += [f"  {_leak_text(leak)}" for leak in fate.leaks]
    if removed:
        sections.append("\n".join(["what was removed or changed", *removed]))
    return "\n\n".join(sections)


def _section(title: str, turns: "list[Turn]") -> str:
    lines = [
        f"  {turn.speaker}: {turn.text}{'' if turn.is_scored else '   (context only: weight 0)'}"
        for turn in turns
    ]
    return "\n".join([title, *lines])


def _leak_text(leak: dict[str, Any]) -> str:
    return (
        f"{leak['cause']} ({leak['similarity']:.0%} alike): turn {leak['turn']} of {leak['conversation_id']} "
        f"in the {leak['split']} split, {leak['text']!r}, is like turn {leak['twin_turn']} of "
        f"{leak['twin_conversation_id']} in the {leak['twin_split']} split, {leak['twin_text']!r}"
    )
