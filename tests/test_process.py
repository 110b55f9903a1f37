"""The command line keeps freed memory, and compiled programs for the next run."""

import os
import subprocess
import sys

import pytest

from cityjax.process import _by_intel

FAULTS = """
import resource
from cityjax.process import keep_freed_memory

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


def test_the_next_run_finds_compiled_programs_and_computes_the_same(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
    # Which programs take long enough to be kept depends on what else runs: keep all.
    environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    entries = []
    for name in ("first", "second"):
        given = ["experiment=mlp_mnist", "steps=4", "progress=off", f"workdir={tmp_path / name}"]
        command = [sys.executable, "-m", "cityjax.run", *given]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        folder = tmp_path / "cache" / "cityjax" / "compiled"
        entries.append({path.name for path in folder.glob("*")})
    programs = [{name for name in names if not name.endswith("-atime")} for names in entries]
    assert bool(programs[0]) != _by_intel() and programs[0] == programs[1]
    first, second = (
        (tmp_path / name / "metrics.jsonl").read_bytes() for name in ("first", "second")
    )
    assert first == second


FOLDERS = """
import sys
from pathlib import Path
import jax
from cityjax.process import keep_compiled_programs

keep_compiled_programs(Path(sys.argv[1]))
print(jax.config.jax_compilation_cache_dir)
"""


def test_a_cache_of_ones_own_stays_and_a_folder_that_cannot_be_is_no_cache(tmp_path):
    (tmp_path / "file").write_text("")

    def found(folder, **own):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
        environment |= {"JAX_PLATFORMS": "cpu", **own}
        arguments = [sys.executable, "-c", FOLDERS, str(folder)]
        return subprocess.check_output(arguments, text=True, env=environment).strip()

    expected = None if _by_intel() else tmp_path / "new"
    assert found(tmp_path / "new") == str(expected)
    assert found(tmp_path / "new", JAX_COMPILATION_CACHE_DIR="/mine") == "/mine"
    assert found(tmp_path / "file" / "below") == "None"
