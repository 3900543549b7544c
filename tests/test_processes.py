"""What a process asks of its operating system, in processes of their own."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from gil_jax.processes import keep_freed_memory
if {keeps}:
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(50_000_000, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is the GNU C library's")
def test_kept_memory_is_not_fetched_again():
    usual, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS.format(keeps=keeps)], capture_output=True, check=True).stdout)
        for keeps in (False, True)
    )
    assert kept < 5 < usual  # pages of 4 KiB or of 2 MiB
