"""Stop texts: where a reply ends because of one."""


def before_stop(text: str, stops: tuple[str, ...]) -> int:
    """The number of characters before the first stop text, or in the whole text if it contains none."""
    return min((start for stop in stops if (start := text.find(stop)) >= 0), default=len(text))


def partial_stop(text: str, stops: tuple[str, ...]) -> int:
    """The number of characters at the end of the text that may be the start of a stop text."""
    starts = (stop[:size] for stop in stops for size in range(1, len(stop)))
    return max((len(start) for start in starts if text.endswith(start)), default=0)
