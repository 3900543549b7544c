"""One face for errors: a command that fails prints one message and ends with a status."""

import sys
from collections.abc import Callable

EXPECTED = (ValueError, OSError, ImportError, FloatingPointError, KeyboardInterrupt)


def run_command(command: Callable[[], int | None], debug: bool = False) -> int:
    """Run `command` and return the exit status: its own, 1 after an error, 130 after Ctrl-C.

    An error of the input (a wrong value, a file that is missing or damaged) is one message on stderr, without a
    traceback. debug: raise it instead. An error that nobody expected keeps its traceback.
    """
    try:
        return command() or 0
    except EXPECTED as error:
        if debug:
            raise
        if isinstance(error, KeyboardInterrupt):
            print("error: stopped by Ctrl-C", file=sys.stderr)
            return 130
        print(f"error: {error}" if str(error) else f"error: {type(error).__name__}", file=sys.stderr)
        return 1
