"""Telling all mistakes of an original at once, not one a run."""

from collections.abc import Sequence

_TOLD = 5


def check(mistakes: Sequence[str]) -> None:
    """Raises a ValueError if there are mistakes: a line each for the first few, and their number.

    Args:
        mistakes: sentences that name file and place.
    """
    if not mistakes:
        return
    more = len(mistakes) - _TOLD
    rest = [f"... and {more} more mistakes of this kind"] if more > 0 else []
    raise ValueError("\n".join([*mistakes[:_TOLD], *rest]))
