"""Running a stage's `main` from the command line.

What a user can cause (a bad file, a typo in params.yaml, a full disk) ends in one line on stderr
and exit status 1. Anything else is our mistake and keeps its traceback.
"""

import argparse
import inspect
import os
import sys
from collections.abc import Callable

# Set to any value to see the traceback behind a one-line error.
TRACEBACK_VARIABLE = "DEEPLAB_TRACEBACK"


def run(main: Callable[..., None]) -> None:
    """Parses argv into main's parameters, one positional argument each, and calls it."""
    parser = argparse.ArgumentParser(description=sys.modules[main.__module__].__doc__)
    for parameter in inspect.signature(main).parameters.values():
        parser.add_argument(parameter.name, type=parameter.annotation)
    arguments = parser.parse_args()
    try:
        main(**vars(arguments))
    except (ValueError, OSError, ArithmeticError) as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        sys.exit(f"error: {_describe(error)}")


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
