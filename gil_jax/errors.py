"""One face for errors: a command that fails prints one message and ends with a status."""

import sys
from collections.abc import Callable

EXPECTED = (ValueError, OSError, ImportError, FloatingPointError, KeyboardInterrupt)


class Stopped(Exception):
    """A signal ended the run before it was done. status: exit status of the command, 128 + the signal's number."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


def run_command(command: Callable[[], int | None], debug: bool = False) -> int:
    """Run `command` and return the exit status: its own, 1 after an error, 128 + the number of a signal.

    An error of the input (a wrong value, a file that is missing or damaged) is one message on stderr, without a
    traceback. debug: raise it instead. An error that nobody expected keeps its traceback.
    """
    try:
        return command() or 0
    except Stopped as stopped:
        print(escape(str(stopped)), file=sys.stderr)
        return stopped.status
    except EXPECTED as error:
        if debug:
            raise
        if isinstance(error, KeyboardInterrupt):
            print("error: stopped by Ctrl-C", file=sys.stderr)
            return 130
        print(f"error: {escape(str(error)) or type(error).__name__}", file=sys.stderr)
        return 1


def escape(text: str) -> str:
    """Show control characters, which names of files may hold, as escape codes: they must not reach a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
