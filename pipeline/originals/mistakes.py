"""Telling all mistakes of an original at once, not one a run."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

_TOLD = 5
# So many end a run that would go on only to find more of them.
_ENOUGH = 20


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


def collected(packed: Iterable[T | str], advance: Callable[[], object]) -> Iterator[T]:
    """Yields what was packed; raises for what could not be, at the end or after 20 mistakes.

    Args:
        packed: the items; a mistake is a text that stands in for its item and says what is wrong.
        advance: is called once for each item or mistake.

    Raises:
        ValueError: there were mistakes, see `check`.
    """
    bad: list[str] = []
    for one in packed:
        advance()
        if not isinstance(one, str):
            yield one
            continue
        bad.append(one)
        if len(bad) == _ENOUGH:
            break
    check(bad)
