"""Makes `.typing/pithead/ROOM → ../../ROOM` for each room, so that tools which look for packages on a path find them.

setuptools' package-dir mapping tells Python, pytest and pip that the folder `delivery` is `pithead.delivery`. mypy,
import-linter and editors do not read it: they get this folder of links on their path instead. git ignores it.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path


def make(root: Path) -> None:
    """The links for the rooms that pyproject.toml maps, and no others. Makes nothing that is there already."""
    rooms = _rooms(root / "pyproject.toml")
    folder = root / ".typing" / "pithead"
    folder.mkdir(parents=True, exist_ok=True)
    for link in folder.iterdir():
        if link.is_symlink() and link.name not in rooms:
            link.unlink()
    for name, room in rooms.items():
        link, to = folder / name, Path(os.path.relpath(root / room, folder))
        if link.is_symlink() and link.readlink() == to:
            continue
        link.unlink(missing_ok=True)
        link.symlink_to(to, target_is_directory=True)


def _rooms(project: Path) -> dict[str, str]:
    """Name within `pithead` → folder; packages within a room come with it."""
    mapping: dict[str, str] = tomllib.loads(project.read_text("utf-8"))["tool"]["setuptools"]["package-dir"]
    return {name.split(".")[1]: room for name, room in mapping.items() if name.count(".") == 1}


if __name__ == "__main__":
    make(Path(__file__).resolve().parent.parent)
