"""Eight CPU devices in one process, and strict shapes, for every test.

`JAX_PLATFORMS=cuda,cpu pytest` runs the suite on a GPU, in full single precision, less the tests
that need eight devices.
"""

import functools
import os
import tempfile

# Most of the suite's time is compilation: the compiler does without its costly optimisations, and
# programs that several tests share are compiled once.
os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        os.environ.get("XLA_FLAGS", ""),  # the last one counts
    ]
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if os.environ["JAX_PLATFORMS"] != "cpu":
    # GPUs and TPUs round what they multiply to 11 or 8 bits, unless they are told not to.
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="cityjax-test-cache-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_runtest_setup(item):
    if item.get_closest_marker("eight_devices") and jax.device_count() < 8:
        pytest.skip("eight devices are needed")


@pytest.fixture(scope="session")
def read_once():
    """`mnist.load`, which reads, unpacks and checks the files at every call, once for each part."""
    from cityjax.data import mnist

    return functools.cache(mnist.load)


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_are_freed():
    """Kept to the end, the programs of all tests would take more than ten gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture
def key():
    """A typed PRNG key."""
    return jax.random.key(0)
