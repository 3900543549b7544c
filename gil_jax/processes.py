"""Worker processes end with the process that started them, even where that was killed."""

import os
import threading
import time


def end_with_parent() -> None:
    """Watch the parent from a thread and end this process when it is gone, so that nothing outlives a killed run."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
