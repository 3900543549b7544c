"""Compiled programs, kept on the disk for the next start."""

import os
import re
import sys
import warnings
from pathlib import Path

import jax

_UNREADABLE = re.compile(r"Error reading persistent compilation cache entry for '([\w.<>-]+)'")


def cache_folder(folder: str | None) -> str:
    """Choose the folder of compiled programs; "" for none.

    folder: the wish of a command, also ""; None takes $JAX_COMPILATION_CACHE_DIR, or gil_jax/compiled in the user's
    cache folder.
    """
    if folder is not None:
        return folder
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.path.join(home, "gil_jax", "compiled")


def keep_compiled(folder: str) -> None:
    """Keep the programs that this process compiles in a folder, and take those that are there; not at all with "".

    An entry that can't be read, e.g. of a process that was killed while it wrote, is removed and compiled again.
    """
    jax.config.update("jax_compilation_cache_dir", folder or None)
    if not folder:
        return
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # small programs are many
    show = warnings.showwarning

    def remove_unreadable(message: Warning | str, category: type[Warning], *place: object) -> None:
        found = _UNREADABLE.match(str(message))
        if found is None:
            show(message, category, *place)  # pyright: ignore[reportArgumentType]
            return
        # jax says it before it compiles, and would never replace an entry.
        for entry in Path(folder).glob(f"{found[1]}-*"):
            entry.unlink(missing_ok=True)
        print(f"{folder}: {found[1]} can't be read, and is compiled again", file=sys.stderr)

    warnings.showwarning = remove_unreadable
