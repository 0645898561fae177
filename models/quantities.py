"""Counts and durations as text for people to read."""


def count_text(count: int, unit: str) -> str:
    """A count with its unit, such as `3,000 turns` or `1 reply`. Give `unit` in the plural."""
    if count == 1:
        unit = f"{unit[:-3]}y" if unit.endswith("ies") else unit.removesuffix("s")
    return f"{count:,} {unit}"


def duration_text(seconds: float) -> str:
    """A duration in at most two units, such as `0.4 s`, `42 s`, `1 min 49 s` or `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
