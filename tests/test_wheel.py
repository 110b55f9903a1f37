"""What the wheel holds: the package, its data, and the experiments as cityjax.experiments."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cityjax import registry

ROOT = Path(__file__).parent.parent
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel of this checkout, unpacked; it is built from a copy, which setuptools litters."""
    folder = tmp_path_factory.mktemp("wheel")
    source, target = folder / "source", folder / "site"
    for name in ("cityjax", "experiments"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=source, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("cityjax-*-py3-none-any.whl")
    zipfile.ZipFile(wheel).extractall(target)
    return target


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_it_holds_every_file_of_the_package_and_the_experiments(unpacked):
    expected = files(ROOT / "cityjax")
    expected |= {f"experiments/{name}": data for name, data in files(ROOT / "experiments").items()}
    assert files(unpacked / "cityjax") == expected
    tops = {path.name for path in unpacked.iterdir() if path.suffix != ".dist-info"}
    assert tops == {"cityjax"}


def test_it_works_away_from_the_checkout(unpacked, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    for name in ("CITYJAX_EXPERIMENTS", "CITYJAX_DATA"):
        environment.pop(name, None)

    def python(*arguments):
        command = [sys.executable, "-W", "error", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    place = python("-c", "import cityjax; print(cityjax.__file__)")
    assert Path(place.stdout.strip()).is_relative_to(unpacked), place.stderr
    data = python("-c", "from cityjax.data import i94, mnist; mnist.load('test'), i94.load()")
    assert data.returncode == 0, data.stderr
    listed = python("-m", "cityjax.run")
    assert listed.returncode == 0, listed.stderr
    for name in registry.available():
        assert f"  {name} " in listed.stdout
