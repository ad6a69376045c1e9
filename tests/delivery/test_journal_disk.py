"""The journal on disks that are full or may not be written: told in words, nothing lost, and on it goes afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

IN_A_SMALL_DISK = """
mount -t tmpfs -o size=600k tmpfs "$1" && exec "$2" -c "$3" "$1"
"""

FULL = """
import asyncio, pathlib, sys
from pithead.delivery import lease
from pithead.delivery.events import LockRequested, NewEvent
from pithead.delivery.journal import Journal, JournalError, persistently
from pithead.delivery.logbook import LogBook, StageLog

folder = pathlib.Path(sys.argv[1])
journal = Journal(f"sqlite:///{folder}/journal.db", "shop")
reader = Journal(f"sqlite:///{folder}/journal.db", "shop")
mine = lease.take(journal, "me")
note = lambda words: NewEvent("ann", LockRequested(words))
acknowledged = [journal.append([note("before")], mine.epoch)[0].seq]
ballast = folder / "ballast"
with ballast.open("wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        pass

# Until it is full: what was acknowledged stands.
told = None
for _ in range(5000):
    try:
        acknowledged.append(journal.append([note("x" * 1000), note("y")], mine.epoch)[-1].seq)
    except JournalError as error:
        told = str(error)
        break
assert told is not None, "it never got full"
assert "the disk under the journal is full; nothing was recorded" in told, told
assert str(folder) in told
for act in (lambda: journal.append([note("z" * 9000)]), lambda: LogBook(journal).write(1, "build", 1, 0, ["l" * 9000])):
    try:
        act()
    except JournalError as error:
        assert "full" in str(error), error
    else:
        raise AssertionError("that should not have fitted")
assert reader.head() == acknowledged[-1]
assert [e.seq for e in reader.read(0)] == list(range(1, acknowledged[-1] + 1))

# Whoever must record first, waits; when there is room again, it goes on.
async def main():
    log = StageLog(LogBook(journal), 1, "build", 1)
    await log.write([f"{i} " + "l" * 1000 for i in range(600)][:400])
    work = asyncio.ensure_future(persistently(lambda: asyncio.to_thread(journal.append, [note("w" * 9000)], mine.epoch)))
    close = asyncio.ensure_future(log.close())
    done, _ = await asyncio.wait({work}, timeout=1.3)
    assert not done, "the disk was full"
    ballast.unlink()
    (event,) = await asyncio.wait_for(work, 30)
    assert event.seq == acknowledged[-1] + 1, event.seq
    await asyncio.wait_for(close, 30)

import pithead.delivery.logbook
asyncio.run(main())
found = reader.read(0)
assert [e.seq for e in found] == list(range(1, acknowledged[-1] + 2))
assert found[-1].payload.reason == "w" * 9000
lines = LogBook(reader).lines(1, "build", 1)
assert [line.text.split()[0] for line in lines] == [str(i) for i in range(400)] or len(lines) == 400, len(lines)
assert reader.fold() == journal.fold()
print("well")
"""


def test_a_full_disk_is_told_loses_nothing_and_is_outlived(tmp_path: Path) -> None:
    """On a real disk of 600 kB, in a mount namespace of its own."""
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    tried = subprocess.run([*namespace, "sh", "-c", 'mount -t tmpfs tmpfs "$1"', "sh", tmp_path], capture_output=True)
    if tried.returncode != 0:
        pytest.skip("this machine lets nobody mount a small disk")
    done = subprocess.run(
        [*namespace, "sh", "-c", IN_A_SMALL_DISK, "sh", tmp_path, sys.executable, FULL],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("well\n")
    assert "disk under the journal is full" in done.stderr, "the one that waits says why"


READ_ONLY = """
import os, pathlib, sys
from pithead.delivery.events import LockRequested, NewEvent
from pithead.delivery.journal import Journal, JournalError

folder = pathlib.Path(sys.argv[1])
def told(act):
    try:
        act()
    except JournalError as error:
        return str(error)
    raise AssertionError("it let us")

(folder / "closed").mkdir()
journal = Journal(f"sqlite:///{folder}/open/journal.db", "shop")
journal.append([NewEvent("ann", LockRequested("before"))])
journal.close()
os.chmod(folder / "closed", 0o500)
words = told(lambda: Journal(f"sqlite:///{folder}/closed/journal.db", "shop"))
assert "cannot be written (Permission denied)" in words and "Give journal.url a place" in words, words
words = told(lambda: Journal(f"sqlite:///{folder}/closed/deeper/journal.db", "shop"))
assert "cannot be written" in words, words

os.chmod(folder / "open" / "journal.db", 0o400)
words = told(lambda: Journal(f"sqlite:///{folder}/open/journal.db", "shop").append([NewEvent("a", LockRequested("x"))]))
assert "cannot be written" in words, words
os.chmod(folder / "open" / "journal.db", 0o600)
os.chmod(folder / "open", 0o500)
words = told(lambda: Journal(f"sqlite:///{folder}/open/journal.db", "shop").append([NewEvent("a", LockRequested("x"))]))
assert "cannot be" in words, words
os.chmod(folder / "open", 0o700)
journal = Journal(f"sqlite:///{folder}/open/journal.db", "shop")
assert [e.seq for e in journal.append([NewEvent("ann", LockRequested("after"))])] == [2]
os.chmod(folder / "closed", 0o700)
print("well")
"""


def test_a_folder_or_file_without_the_right_to_write_is_told_and_nothing_lost(tmp_path: Path) -> None:
    """Root keeps its name and loses the right to pass over mode bits."""
    bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*bound, sys.executable, "-c", READ_ONLY, tmp_path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "well\n"
