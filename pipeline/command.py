"""Running a stage's `main` from the command line.

What a user can cause (a bad file, a typo in params.yaml, a full disk, a batch that does not fit)
ends in one line on stderr and exit status 1. Anything else is our mistake and keeps its traceback.
"""

import argparse
import inspect
import os
import sys
from collections.abc import Callable

# Set to any value to see the traceback behind a one-line error.
TRACEBACK_VARIABLE = "DEEPLAB_TRACEBACK"

_SAVING = (
    "less is needed with a smaller inference.batch_size; in training with more accumulation_steps "
    "or precision: bfloat16; for pictures of your own with a smaller MAX_SIDE"
)


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
        sys.exit(f"error: {describe(error)}")
    except (RuntimeError, MemoryError) as error:
        if os.environ.get(TRACEBACK_VARIABLE) or not _is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else "no more to be had"
        sys.exit(f"error: out of memory ({reason}): {_SAVING}")


def describe(error: Exception) -> str:
    """An error as one line for people; of a file that cannot be used, its name and why."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, torch on a GPU, or torch on a CPU (a bare RuntimeError) ran out of memory."""
    names = {type_.__name__ for type_ in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "allocate memory" in str(error)
