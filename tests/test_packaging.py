"""What is delivered: the wheel holds the rooms under `pithead`, all of them and nothing else, and works by itself.

The wheel is built once from a copy of the sources, without isolation, so that no network is needed and no folder of
ours is written to. It is then tried in an environment that sees the libraries of this one but not the checkout.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("console", "widgets", "delivery", "backends")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGING = PROJECT["tool"]["setuptools"]
GROUPS = PROJECT["project"]["entry-points"]
ENTRY_POINTS = sorted((group, name) for group, points in GROUPS.items() for name in points)
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
NOT_OURS = shutil.ignore_patterns("__pycache__", "*.pyc")


def files_of_rooms() -> Iterator[Path]:
    """Every file of the rooms that git would take, relative to the root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *ROOMS]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return (Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=NOT_OURS)
    subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=source, capture_output=True, text=True, check=True)
    (built,) = out.glob("*.whl")
    return built


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment that holds the wheel."""

    folder: Path

    def run(self, *command: str) -> str:
        """What the command, one of the environment's, prints; fails with all of its output if it fails."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PITHEAD"))}
        done = subprocess.run(
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, str(wheel)], capture_output=True, text=True, check=True)
    # A folder named in a .pth file is searched, but the .pth files in it (the editable install of the checkout) are not read.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return Installed(folder)


def test_every_folder_with_code_is_a_package_that_is_listed() -> None:
    folders = {file.parent for file in files_of_rooms() if file.suffix == ".py"}
    without_init = [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").is_file()]
    assert not without_init
    found = {".".join(("pithead", *folder.parts)): str(folder) for folder in folders}
    assert found == PACKAGING["package-dir"]
    assert sorted(found) == sorted(PACKAGING["packages"])


def test_the_wheel_holds_every_file_of_the_rooms_under_pithead_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {f"pithead/{file.as_posix()}" for file in files_of_rooms()}


def test_the_wheel_tells_that_it_is_typed_and_carries_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (licence,) = (name for name in names if name.endswith("/licenses/LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    assert {f"pithead/{room}/py.typed" for room in ROOMS} <= set(names)


def test_the_command_of_the_wheel_tells_its_version_and_its_help(installed: Installed) -> None:
    assert installed.run("pithead", "--version").split()[-1] == PROJECT["project"]["version"]
    assert "promote" in installed.run("pithead", "--help")


def test_the_wheel_runs_from_its_own_files(installed: Installed) -> None:
    where = installed.run("python", "-c", "import pithead.delivery.ports as p; print(p.__file__)")
    assert Path(where.strip()).is_relative_to(installed.folder)


@pytest.mark.parametrize(("group", "name"), ENTRY_POINTS)
def test_every_backend_of_the_wheel_is_found_by_its_name(installed: Installed, group: str, name: str) -> None:
    ask = (
        "import json, sys; from pithead.console.registry import Registry; "
        "print(json.dumps(Registry().load(*sys.argv[1:]).__qualname__))"
    )
    assert json.loads(installed.run("python", "-c", ask, group, name)) == GROUPS[group][name].rpartition(":")[2]


def test_no_dependency_is_without_an_exact_version() -> None:
    """A name that constraints.txt lacks would be installed in whatever version is the newest that day."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {canonicalize_name(Requirement(line).name): line for line in lines if line and not line.startswith("#")}
    assert all("==" in line and "://" not in line for line in pinned.values())
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *PROJECT["dependency-groups"]["dev"], *PROJECT["build-system"]["requires"]]
    wanted += [line for extra in project["optional-dependencies"].values() for line in extra]
    assert [line for line in wanted if canonicalize_name(Requirement(line).name) not in pinned] == []
