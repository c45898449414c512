"""Which entries of params.yaml have been run: a preset of days is looked at after its first row."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def entries(all_entries: Mapping[str, T], file: Callable[[str], Path], what: str) -> dict[str, T]:
    """The entries whose file is there, by key; says how many are not.

    Args:
        all_entries: of params.yaml, by key.
        file: of a key.
        what: they are, for people: "rows".
    """
    found = {key: entry for key, entry in all_entries.items() if file(key).exists()}
    if len(found) < len(all_entries):
        print(
            f"{len(found)} of {len(all_entries)} {what} were run; the others are left out",
            file=sys.stderr,
        )
    return found
