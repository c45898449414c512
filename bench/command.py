"""Running a bench: its exit status, and one line for what a user can cause."""

import argparse
import sys
from collections.abc import Callable

from pipeline import command


def run(main: Callable[[], int]) -> None:
    """Calls main, whose result is the exit status; a missing peer or file is told in one line."""
    try:
        status = main()
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error}: `make bench-setup` installs the peers")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {command.describe(error)}")
    sys.exit(status)


def count(text: str) -> int:
    """A whole number above 0, as argparse reads it."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
