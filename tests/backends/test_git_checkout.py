"""Checkouts of the git source: the commit's whole tree, none of the user's files touched, nothing left behind."""

# ruff: noqa: ASYNC220, ASYNC240 - a test's event loop may be blocked

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from repositories import Repository

from pithead.backends.git import GitOptions, GitSource
from pithead.backends.git_worktree import _remove_tree
from pithead.delivery.ports import BackendError, Context

NOBODY = 65534
CRASHING = """
import asyncio, sys
from pathlib import Path
from pithead.backends.git import GitOptions, GitSource
from pithead.delivery.ports import Context

async def main(repository, state, sha):
    async with GitSource(GitOptions(), Context("shop", Path(state), Path(repository))).checkout(sha) as folder:
        print(folder, flush=True)
        await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def look_at(state: Path) -> Callable[[Path], GitSource]:
    return lambda folder: GitSource(GitOptions(), Context("shop", state, folder))


Look = Callable[[Path], GitSource]


@contextmanager
def without_roots_rights(place: Path) -> Iterator[None]:
    user = os.geteuid()
    if user == 0:
        os.chown(place, NOBODY, -1)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def worktrees(repository: Repository) -> list[str]:
    listing = repository.git("worktree", "list", "--porcelain").splitlines()
    return [line.removeprefix("worktree ") for line in listing if line.startswith("worktree ")]


async def test_a_checkout_is_private_and_a_repository_of_its_own(
    repository: Repository, look_at: Look, state: Path
) -> None:
    repository.commit("One")
    repository.git("tag", "-a", "-m", "First", "v1")
    sha = repository.commit("Two")
    user = repository.path
    async with look_at(repository.path).checkout(sha) as folder:
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        assert folder.is_relative_to(state)
        repository.path = folder
        assert repository.git("describe").startswith("v1-1-g")
    repository.path = user
    assert list((state / "checkouts").iterdir()) == []
    assert worktrees(repository) == [str(repository.path)]


async def test_files_that_an_export_would_leave_out_are_there(repository: Repository, look_at: Look) -> None:
    sha = repository.commit("One", files={".gitattributes": "tests export-ignore\n", "tests/test_it.py": "pass\n"})
    async with look_at(repository.path).checkout(sha) as folder:
        assert (folder / "tests" / "test_it.py").exists()


async def test_what_the_user_left_out_of_a_sparse_tree_is_there(repository: Repository, look_at: Look) -> None:
    sha = repository.commit("One", files={"wanted/a.txt": "a\n", "unwanted/b.txt": "b\n"})
    repository.git("sparse-checkout", "set", "wanted")
    assert not (repository.path / "unwanted").exists()
    async with look_at(repository.path).checkout(sha) as folder:
        assert (folder / "unwanted" / "b.txt").exists()
    assert not (repository.path / "unwanted").exists()


async def test_executables_and_links_are_as_they_were_committed(repository: Repository, look_at: Look) -> None:
    script = repository.path / "run.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    (repository.path / "link").symlink_to("/etc")
    sha = repository.commit("One", files={})
    async with look_at(repository.path).checkout(sha) as folder:
        assert os.access(folder / "run.sh", os.X_OK)
        assert (folder / "link").is_symlink()
    assert Path("/etc").is_dir()


async def test_no_hook_of_the_user_is_run(repository: Repository, look_at: Look, tmp_path: Path) -> None:
    sha = repository.commit("One")
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        hook = repository.path / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f'#!/bin/sh\ntouch "{tmp_path}/hooked-{name}"\n')
        hook.chmod(0o755)
    source = look_at(repository.path)
    await source.head()
    async with source.checkout(sha):
        pass
    assert list(tmp_path.glob("hooked-*")) == []


async def test_filters_that_the_user_configured_are_run(repository: Repository, look_at: Look) -> None:
    sha = repository.commit("One", files={".gitattributes": "*.up filter=up\n", "a.up": "small\n"})
    repository.git("config", "filter.up.smudge", "tr a-z A-Z")
    async with look_at(repository.path).checkout(sha) as folder:
        assert (folder / "a.up").read_text() == "SMALL\n"


async def test_a_required_filter_that_is_missing_is_told(repository: Repository, look_at: Look, state: Path) -> None:
    sha = repository.commit("One", files={".gitattributes": "*.bin filter=lfs\n", "a.bin": "pointer\n"})
    repository.git("config", "filter.lfs.smudge", "no-such-lfs smudge")
    repository.git("config", "filter.lfs.required", "true")
    with pytest.raises(BackendError, match=r"no-such-lfs|filter"):
        async with look_at(repository.path).checkout(sha):
            pass
    assert worktrees(repository) == [str(repository.path)]
    assert list((state / "checkouts").iterdir()) == []


async def test_submodules_are_left_empty_and_the_doctor_says_so(
    repository: Repository, look_at: Look, tmp_path: Path
) -> None:
    library = Repository(tmp_path / "library")
    library.commit("Library")
    repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library.path), "library")
    sha = repository.commit("Use it", files={})
    source = look_at(repository.path)
    async with source.checkout(sha) as folder:
        assert list((folder / "library").iterdir()) == []
    assert "git submodule update --init" in (await source.check())[-1].detail


def test_folders_that_a_build_made_read_only_are_removed_and_links_are_not_followed() -> None:
    """Go's module cache is such a folder. Root may remove anything, so this is tried as somebody else."""
    with tempfile.TemporaryDirectory() as place, without_roots_rights(Path(place)):
        kept = Path(place, "kept")
        kept.mkdir(mode=0o500)
        inner = Path(place, "tree", "cache", "module")
        inner.mkdir(parents=True)
        (inner / "file").write_text("x")
        (inner / "away").symlink_to(kept)
        for folder, mode in ((inner, 0o555), (inner.parent, 0o000)):
            folder.chmod(mode)
        _remove_tree(Path(place, "tree"))
        assert not Path(place, "tree").exists()
        assert stat.S_IMODE(kept.stat().st_mode) == 0o500


async def test_a_cancelled_checkout_leaves_nothing(
    repository: Repository, look_at: Look, state: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    sha = repository.commit("One", files={".gitattributes": "*.slow filter=slow\n", "a.slow": "x\n"})
    repository.git("config", "filter.slow.smudge", f"echo begun > '{begun}'; sleep 600; cat")

    async def check_out() -> None:
        async with look_at(repository.path).checkout(sha):
            pass

    others = set(psutil.Process().children(recursive=True))  # a server that other tests of this process share
    working = asyncio.ensure_future(check_out())
    assert await asyncio.to_thread(begun.read_text) == "begun\n"
    sleepers = [child for child in psutil.Process().children(recursive=True) if child not in others]
    assert len(sleepers) > 1, "git and its filter"
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    _, alive = psutil.wait_procs(sleepers, timeout=10)
    assert alive == []
    assert list((state / "checkouts").iterdir()) == []
    assert worktrees(repository) == [str(repository.path)]


async def test_a_build_that_is_cancelled_twice_still_loses_its_folder(
    repository: Repository, look_at: Look, state: Path
) -> None:
    sha = repository.commit("One")
    inside = asyncio.Event()

    async def build() -> None:
        async with look_at(repository.path).checkout(sha):
            inside.set()
            await asyncio.Event().wait()

    building = asyncio.ensure_future(build())
    await inside.wait()
    building.cancel()
    await asyncio.sleep(0)
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))
    assert list((state / "checkouts").iterdir()) == []
    assert worktrees(repository) == [str(repository.path)]


async def test_what_a_crashed_run_left_is_swept_by_the_next_and_the_users_is_not(
    repository: Repository, look_at: Look, state: Path, tmp_path: Path
) -> None:
    sha = repository.commit("One")
    users = tmp_path / "on-a-disk-that-is-not-mounted"
    repository.git("worktree", "add", "--quiet", "--detach", str(users))
    users.rename(tmp_path / "away")

    crashing = subprocess.Popen(
        [sys.executable, "-c", CRASHING, str(repository.path), str(state), sha], stdout=subprocess.PIPE, text=True
    )
    assert crashing.stdout is not None
    left = Path(crashing.stdout.readline().strip())
    source = look_at(repository.path)
    async with source.checkout(sha):
        assert left.exists(), "it is in use by another process"
    crashing.send_signal(signal.SIGKILL)
    crashing.wait()
    crashing.stdout.close()

    assert left.exists()
    async with source.checkout(sha) as folder:
        assert not left.exists()
        assert worktrees(repository) == [str(repository.path), str(users), str(folder)]
    assert worktrees(repository) == [str(repository.path), str(users)]
    assert list((state / "checkouts").iterdir()) == []


async def test_nothing_of_git_is_left_when_its_caller_is_killed(
    repository: Repository, state: Path, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    sha = repository.commit("One", files={".gitattributes": "*.slow filter=slow\n", "a.slow": "x\n"})
    repository.git("config", "filter.slow.smudge", f"echo begun > '{begun}'; sleep 600; cat")
    crashing = subprocess.Popen([sys.executable, "-c", CRASHING, str(repository.path), str(state), sha])
    assert await asyncio.to_thread(begun.read_text) == "begun\n"
    children = psutil.Process(crashing.pid).children(recursive=True)
    assert len(children) > 2, "the guard, git and its filter"
    crashing.kill()
    crashing.wait()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []


async def test_a_folder_that_vanished_is_forgotten(repository: Repository, look_at: Look, state: Path) -> None:
    sha = repository.commit("One")
    async with look_at(repository.path).checkout(sha) as folder:
        folder.rename(folder.parent.parent / "moved")
    assert worktrees(repository) == [str(repository.path)]


async def test_a_state_folder_that_cannot_be_written_is_told(repository: Repository, tmp_path: Path) -> None:
    sha = repository.commit("One")
    (tmp_path / "file").write_text("")
    source = GitSource(GitOptions(), Context("shop", tmp_path / "file", repository.path))
    with pytest.raises(BackendError, match="No folder for a checkout") as caught:
        async with source.checkout(sha):
            pass
    assert caught.value.mend


async def test_a_repository_that_goes_away_during_a_build_does_not_hide_how_the_build_ended(
    repository: Repository, look_at: Look
) -> None:
    sha = repository.commit("One")
    checkout = look_at(repository.path).checkout(sha)
    folder = await checkout.__aenter__()
    (repository.path / ".git").rename(repository.path / "gone")
    broken = RuntimeError("the build broke")
    assert not await checkout.__aexit__(RuntimeError, broken, None), "the build's own error is passed on"
    assert not folder.exists()
