"""Freed memory stays with the process that asks for it."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
from cityjax.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * 50_000_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
cold = faults()
keep_freed_memory()
faults()
print(cold, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_used_again_without_page_faults():
    arguments = [sys.executable, "-c", FAULTS]
    cold, warm = map(int, subprocess.check_output(arguments, text=True).split())
    assert cold > 20 * max(warm, 1)
