"""The git source and its remote: fetched without touching what is the user's, and told apart when it fails."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from repositories import Repository

from pithead.backends.git import GitOptions, GitSource
from pithead.backends.git_remote import Remote
from pithead.delivery.ports import BackendError, Context

Look = Callable[..., GitSource]


@pytest.fixture
def upstream(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "upstream")
    made.commit("One")
    return made


@pytest.fixture
def clone(upstream: Repository, tmp_path: Path) -> Repository:
    return upstream.clone(tmp_path / "clone")


@pytest.fixture
def look_at(tmp_path: Path) -> Look:
    def make(repository: Repository, **options: object) -> GitSource:
        state = tmp_path / "state"
        state.mkdir(mode=0o700, exist_ok=True)
        return GitSource(GitOptions.model_validate(options), Context("shop", state, repository.path))

    return make


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A server on loopback that gives every caller this answer, or never one. Yields its port, and when it was called."""
    called = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        if answer is None:
            await reader.read()  # until the caller gives up
        else:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1], called


def git_children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "git" in child.name()]


async def test_head_is_what_the_remote_has(upstream: Repository, clone: Repository, look_at: Look) -> None:
    two = upstream.commit("Two")
    assert await look_at(clone).head() == two


async def test_a_fetch_moves_the_remote_tracking_branch_alone(
    upstream: Repository, clone: Repository, look_at: Look
) -> None:
    (clone.path / "half-done.txt").write_text("work of the user\n")
    clone.git("add", "half-done.txt")
    upstream.commit("Two")
    upstream.git("tag", "v2")
    before = clone.state().replace("# branch.ab +0 -1", "# branch.ab +0 -0")
    await look_at(clone).head()
    after = clone.state().replace("# branch.ab +0 -1", "# branch.ab +0 -0")
    assert after == before
    assert clone.head("origin/main") == upstream.head()


async def test_a_local_branch_is_followed_when_the_remote_is_switched_off(
    upstream: Repository, clone: Repository, look_at: Look
) -> None:
    upstream.commit("Two")
    assert await look_at(clone, remote="").head() == clone.head()


async def test_another_remote_than_origin_is_fetched_when_it_is_named(
    upstream: Repository, clone: Repository, look_at: Look
) -> None:
    clone.git("remote", "rename", "origin", "elsewhere")
    two = upstream.commit("Two")
    assert await look_at(clone).head() == clone.head(), "without an origin the local branch counts"
    assert await look_at(clone, remote="elsewhere").head() == two


async def test_a_remote_that_is_not_configured_is_told_with_those_that_are(clone: Repository, look_at: Look) -> None:
    with pytest.raises(BackendError, match="no remote 'orign'") as caught:
        await look_at(clone, remote="orign").head()
    assert caught.value.mend == "The remotes are origin."


async def test_a_branch_that_the_remote_lacks_is_told_with_those_that_it_has(
    upstream: Repository, clone: Repository, look_at: Look
) -> None:
    upstream.git("branch", "stable")
    clone.git("branch", "stabel")
    with pytest.raises(BackendError, match="The remote origin has no branch 'stabel'") as caught:
        await look_at(clone, branch="stabel").head()
    assert caught.value.mend == "The branches are stable, main."


async def test_an_empty_remote_is_told(clone: Repository, look_at: Look, tmp_path: Path) -> None:
    empty = Repository(tmp_path / "empty")
    clone.git("remote", "set-url", "origin", str(empty.path))
    with pytest.raises(BackendError, match="The remote origin has no commit yet"):
        await look_at(clone).head()


async def test_a_remote_that_is_away_is_told(upstream: Repository, clone: Repository, look_at: Look) -> None:
    shutil.rmtree(upstream.path)
    source = look_at(clone)
    with pytest.raises(BackendError, match="The remote origin cannot be reached") as caught:
        await source.head()
    assert "git remote get-url origin" in caught.value.mend
    findings = {finding.subject: finding for finding in await source.check()}
    assert not findings["remote"].is_well
    assert findings["repository"].is_well


async def test_a_force_pushed_branch_is_followed_and_told(
    upstream: Repository, clone: Repository, look_at: Look
) -> None:
    root = upstream.head()
    live = upstream.commit("Live")
    source = look_at(clone)
    assert await source.head() == live
    upstream.git("reset", "--quiet", "--hard", root)
    head = upstream.commit("Rewritten")
    assert await source.head() == head
    pending = await source.commits(live, head)
    assert [commit.sha for commit in pending.commits] == [head]
    assert not pending.base_is_ancestor
    assert "1 commit away" in pending.note


async def test_a_remote_that_never_answers_is_given_up_and_nothing_is_left_running(
    clone: Repository, look_at: Look
) -> None:
    async with server(None) as (port, _):
        clone.git("remote", "set-url", "origin", f"git://127.0.0.1:{port}/x")
        with pytest.raises(BackendError, match=r"did not answer within 0\.5 seconds") as caught:
            await look_at(clone, fetch_timeout_seconds=0.5).head()
        assert "fetch_timeout_seconds" in caught.value.mend
        assert git_children() == []


async def test_a_cancelled_fetch_leaves_nothing_running(clone: Repository, look_at: Look) -> None:
    async with server(None) as (port, called):
        clone.git("remote", "set-url", "origin", f"git://127.0.0.1:{port}/x")
        fetching = asyncio.ensure_future(look_at(clone).head())
        await asyncio.wait_for(called.wait(), 30)
        assert git_children() != []
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        assert git_children() == []
    assert not list((clone.path / ".git").rglob("*.lock"))


async def test_a_remote_that_wants_a_password_is_told_and_nobody_is_asked(clone: Repository, look_at: Look) -> None:
    denied = b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
    async with server(denied) as (port, _):
        clone.git("remote", "set-url", "origin", f"http://127.0.0.1:{port}/x.git")
        with pytest.raises(BackendError, match="The remote origin refuses") as caught:
            await look_at(clone).head()
    assert "credential helper" in caught.value.mend


async def test_a_password_in_a_url_is_never_shown(clone: Repository, look_at: Look) -> None:
    broken = b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with server(broken) as (port, _):
        clone.git("remote", "set-url", "origin", f"http://ada:s3cret@127.0.0.1:{port}/x.git")
        with pytest.raises(BackendError, match="cannot be reached") as caught:
            await look_at(clone).head()
    assert "127.0.0.1" in caught.value.message
    assert "s3cret" not in str(caught.value)


async def test_watch_ends_with_the_reason_when_the_remote_goes_away(
    upstream: Repository, clone: Repository, look_at: Look
) -> None:
    heads = look_at(clone, poll_seconds=0.05).watch()
    await anext(heads)
    shutil.rmtree(upstream.path)
    with pytest.raises(BackendError, match="cannot be reached"):
        await anext(heads)


async def test_watch_sees_what_the_user_fetched_between_its_own_fetches(
    upstream: Repository, clone: Repository, look_at: Look
) -> None:
    heads = look_at(clone, poll_seconds=0.05, fetch_seconds=3600).watch()
    await anext(heads)
    two = upstream.commit("Two")
    clone.git("fetch", "--quiet")
    assert await anext(heads) == two
    await heads.aclose()


async def test_many_sources_that_fetch_at_once_all_get_the_head(
    upstream: Repository, clone: Repository, look_at: Look
) -> None:
    sources = [look_at(clone) for _ in range(6)]
    for number in range(3):
        head = upstream.commit(f"Commit {number}")
        assert await asyncio.gather(*(source.head() for source in sources)) == [head] * 6


def test_a_remote_on_the_network_is_asked_four_times_a_minute_at_most(clone: Repository, look_at: Look) -> None:
    local, away = Remote("origin", is_local=True), Remote("origin", is_local=False)
    assert look_at(clone)._fetch_seconds(local) == 2
    assert look_at(clone)._fetch_seconds(away) == 15
    assert look_at(clone, poll_seconds=60)._fetch_seconds(away) == 60
    assert look_at(clone, fetch_seconds=1)._fetch_seconds(away) == 1


async def test_ssh_is_told_not_to_ask(
    clone: Repository, look_at: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    fake = tmp_path / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\necho "$@" >> "{told}"\necho "ssh: Host key verification failed." >&2\nexit 255\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    clone.git("remote", "set-url", "origin", "ssh://git@example.invalid/x.git")
    with pytest.raises(BackendError, match="refuses: Host key verification failed"):
        await look_at(clone).head()
    assert "BatchMode=yes" in told.read_text()

    clone.git("config", "core.sshCommand", f"{fake} -o Own=yes")
    with pytest.raises(BackendError):
        await look_at(clone).head()
    last = told.read_text().splitlines()[-1]
    assert "Own=yes" in last
    assert "BatchMode" not in last


async def test_a_lasting_ssh_master_neither_holds_a_fetch_up_nor_outlives_it(
    upstream: Repository, clone: Repository, look_at: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ControlPersist leaves a process behind that keeps standard error open."""
    pid_file = tmp_path / "master"
    fake = tmp_path / "bin" / "ssh"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/sh\nsleep 600 >/dev/null </dev/null & echo $! > "{pid_file}"\nexec git-upload-pack "{upstream.path}"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join((str(fake.parent), os.environ["PATH"], clone.git("--exec-path"))))
    clone.git("remote", "set-url", "origin", "ssh://git@example.invalid/x.git")
    two = upstream.commit("Two")
    try:
        async with asyncio.timeout(30):
            assert await look_at(clone).head() == two
    finally:
        left = [psutil.Process(pid) for pid in [int(pid_file.read_text())] if psutil.pid_exists(pid)]
        for process in left:
            process.kill()
    assert left == []
