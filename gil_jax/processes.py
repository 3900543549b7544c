"""Worker processes end with the process that started them, even where that was killed."""

import os
import threading
import time


def end_with_parent(parent: int) -> None:
    """End this process when `parent`, the process id that started it, is gone: nothing outlives a killed run."""
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
