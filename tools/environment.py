"""Makes `.venv` fit for a target of the Makefile: `python tools/environment.py run|work`.

`run` is what the demo needs, `work` adds what tests and checks need. Everything comes from pyproject.toml at the
versions of constraints.txt, the build back-end too. When nothing changed since the last time this costs a look at one
file: a stamp in the environment says what it was made from. An environment whose Python is gone, is another one than
the one asked for, or whose folder was moved is made anew. Only the standard library is used here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

import typing_links

ROOT: Final = Path(__file__).resolve().parent.parent
VENV: Final = ROOT / ".venv"
PYTHON: Final = VENV / "bin" / "python"
STAMP: Final = VENV / "made-from.json"
SOURCES: Final = ("pyproject.toml", "constraints.txt", "tools/environment.py")

# The back-end is installed first and used without isolation: pip would fetch another, unpinned one for the build.
# pip itself comes first because dependency groups need 25.1, and Python's own `venv` may bring an older one.
TOOLS: Final = ("pip", "setuptools")
NEEDS: Final = {
    "run": ("--no-build-isolation", "--editable", ".[local]"),
    "work": ("--no-build-isolation", "--editable", ".[local,postgres]", "--group", "dev"),
}
SHOWN_LINES: Final = 30


def main(purpose: str) -> None:
    os.chdir(ROOT)
    wanted = {"purpose": purpose, "folder": str(ROOT), "python": _python_version(), "sources": _digest()}
    stamp = _stamp()
    if not _is_usable(stamp, wanted):
        _make_anew()
        stamp = {}
    if not _serves(stamp, wanted):
        STAMP.unlink(missing_ok=True)
        began = time.monotonic()
        _tell(f"Setting up .venv (Python {_python_version()}). The first time this takes a minute or two.")
        _install("pip and setuptools", *TOOLS)
        _install("Pithead, and what it needs to " + purpose, *NEEDS[purpose])
        STAMP.write_text(json.dumps(wanted), "utf-8")
        _tell(f"Set up in {time.monotonic() - began:.0f} s.")
    if purpose == "work":
        typing_links.make(ROOT)


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _digest() -> str:
    return hashlib.sha256(b"\0".join((ROOT / name).read_bytes() for name in SOURCES)).hexdigest()


def _stamp() -> dict[str, str]:
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp


def _is_usable(stamp: dict[str, str], wanted: dict[str, str]) -> bool:
    """Whether the environment can be built upon: it has a Python of the wanted version and stands where it was made.
    Scripts in an environment begin with its full path, so that a moved one is of no use."""
    if stamp.get("folder", wanted["folder"]) != wanted["folder"]:
        return False
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([PYTHON, "-I", "-S", "-c", ask], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.stdout.strip() == wanted["python"]


def _serves(stamp: dict[str, str], wanted: dict[str, str]) -> bool:
    """Whether it was made from the same files, for this purpose or for more."""
    return {**stamp, "purpose": ""} == {**wanted, "purpose": ""} and stamp["purpose"] in (wanted["purpose"], "work")


def _make_anew() -> None:
    if VENV.exists() or VENV.is_symlink():
        if VENV.is_symlink() or not (VENV / "pyvenv.cfg").is_file():
            _leave(f"{VENV} is there and is no virtual environment. Move it away, then try again.")
        shutil.rmtree(VENV)
    python = _outer_python()
    made = subprocess.run([python, "-m", "venv", VENV], capture_output=True, text=True, check=False)
    if made.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        _leave(
            f"{made.stdout}{made.stderr}\n{python} cannot make virtual environments. "
            "On Debian and Ubuntu: apt install python3-venv. Or name another Python: make demo PYTHON=/path/to/python3"
        )


def _outer_python() -> str:
    """This Python, or if it is the one of an environment (which may be the one just removed) that which made it."""
    if sys.prefix == sys.base_prefix:
        return sys.executable
    return str(Path(sys.base_prefix) / "bin" / f"python{_python_version()}")


def _install(what: str, *arguments: str) -> None:
    _tell(f"  {what} …")
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--constraint", "constraints.txt"]
    pip = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert pip.stdout is not None
    said = []
    for line in pip.stdout:
        said.append(line)
        _show_progress(line)
    _show_progress("")
    if pip.wait():
        _leave(f"{''.join(said[-SHOWN_LINES:])}\npip could not install {what}. See above; then try again.")


def _show_progress(line: str) -> None:
    """On a terminal only: what pip is at, on one line that is wiped afterwards."""
    if sys.stderr.isatty() and (not line or line.startswith(("Collecting", "Installing", "Building"))):
        print(f"\r\x1b[K    {line.strip()[:70]}" if line else "\r\x1b[K", end="", file=sys.stderr, flush=True)


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _leave(words: str) -> NoReturn:
    _tell(words.strip())
    sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:] not in ([purpose] for purpose in NEEDS):
        _leave(f"usage: python tools/environment.py {'|'.join(NEEDS)}")
    main(sys.argv[1])
