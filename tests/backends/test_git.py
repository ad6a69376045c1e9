"""The git source on repositories of every odd kind: each works, or ends in a message that says what to do."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import Popen

import pytest
from pydantic import ValidationError
from repositories import Repository

from pithead.backends import git_process, git_repository
from pithead.backends.git import GitOptions, GitSource
from pithead.backends.git_guard import Guarded
from pithead.delivery.ports import BackendError, CheckFailed, Context

ABSENT = "0123456789" * 4


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def look_at(tmp_path: Path) -> Callable[..., GitSource]:
    """Makes a source that looks at a folder."""

    def make(folder: Path, **options: object) -> GitSource:
        state = tmp_path / "state"
        state.mkdir(mode=0o700, exist_ok=True)
        return GitSource(GitOptions.model_validate(options), Context("shop", state, folder))

    return make


Look = Callable[..., GitSource]


# ── what is no usable repository ─────────────────────────────────────────────────────────────────────────────────


async def test_a_folder_without_a_repository_is_told(tmp_path: Path, look_at: Look) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    with pytest.raises(BackendError, match="not in a git repository") as caught:
        await look_at(plain).head()
    assert str(plain) in caught.value.message
    assert caught.value.mend


async def test_a_folder_that_is_missing_is_told(tmp_path: Path, look_at: Look) -> None:
    with pytest.raises(BackendError, match="missing") as caught:
        await look_at(tmp_path, repository="missing").head()
    assert "folder that is there" in caught.value.mend


async def test_a_repository_without_a_commit_is_told(repository: Repository, look_at: Look) -> None:
    with pytest.raises(BackendError, match="has no commit yet") as caught:
        await look_at(repository.path).head()
    assert "'main'" in caught.value.mend


async def test_a_missing_branch_is_told_with_those_that_exist_nearest_first(
    repository: Repository, look_at: Look
) -> None:
    repository.commit("One")
    for branch in ("docs", "release-2", "zoo"):
        repository.git("branch", branch)
    with pytest.raises(BackendError, match="no branch 'release-1'") as caught:
        await look_at(repository.path, branch="release-1").head()
    assert caught.value.mend.startswith("The branches are release-2, ")
    assert all(branch in caught.value.mend for branch in ("main", "docs", "zoo"))


async def test_a_repository_of_another_user_is_told_with_the_mend(
    repository: Repository, look_at: Look, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repository.commit("One")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    with pytest.raises(BackendError, match="another user") as caught:
        await look_at(repository.path).head()
    assert caught.value.mend == f"If you trust it: git config --global --add safe.directory {repository.path}"


async def test_a_git_that_is_not_there_is_told(
    repository: Repository, look_at: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("One")
    monkeypatch.setattr("git.cmd.Git.GIT_PYTHON_GIT_EXECUTABLE", "/nowhere/git")
    with pytest.raises(BackendError, match="git could not be started") as caught:
        await look_at(repository.path).head()
    assert "Install git" in caught.value.mend
    [finding] = await look_at(repository.path).check()
    assert (finding.subject, finding.is_well) == ("git", False)


# ── what is unusual and works ────────────────────────────────────────────────────────────────────────────────────


async def test_a_detached_head_changes_nothing(repository: Repository, look_at: Look) -> None:
    one = repository.commit("One")
    two = repository.commit("Two")
    repository.git("checkout", "--quiet", "--detach", one)
    source = look_at(repository.path)
    assert await source.head() == two
    assert await source.resolve("HEAD") == one


async def test_a_bare_repository_is_a_source_like_any_other(
    repository: Repository, look_at: Look, tmp_path: Path
) -> None:
    one = repository.commit("One")
    two = repository.commit("Two")
    repository.git("clone", "--quiet", "--bare", str(repository.path), str(tmp_path / "bare.git"))
    source = look_at(tmp_path / "bare.git", remote="")
    assert await source.head() == two
    assert (await source.commits(one, two)).total == 1
    async with source.checkout(two) as folder:
        assert (folder / "Two.txt").read_text() == "Two\n"
    assert "(bare)" in (await source.check())[1].detail


@pytest.mark.parametrize("options", [("--bare",), ("--mirror",), ("--single-branch",)])
async def test_a_clone_of_any_kind_fetches_its_branch(
    repository: Repository, look_at: Look, tmp_path: Path, options: tuple[str, ...]
) -> None:
    repository.commit("One")
    clone = repository.clone(tmp_path / "clone", *options)
    two = repository.commit("Two")
    assert await look_at(clone.path).head() == two


async def test_a_shallow_clone_works_and_says_so(repository: Repository, look_at: Look, tmp_path: Path) -> None:
    old = repository.commit("Old", files={"big.txt": "line\n" * 100})
    edge = repository.commit("Edge", files={"small.txt": "1\n"})
    new = repository.commit("New", files={"small.txt": "2\n"})
    clone = repository.clone(tmp_path / "clone", "--depth=2")
    source = look_at(clone.path)
    assert await source.head() == new

    pending = await source.commits(None, new)
    assert [commit.sha for commit in pending.commits] == [new, edge]
    assert pending.commits[1].added == 0, "the whole tree is not what the commit added"
    assert await source.changes(edge) == ()
    assert "shallow" in pending.note

    lost = await source.commits(old, new)
    assert not lost.base_is_ancestor
    assert old[:12] in lost.note
    assert "--unshallow" in lost.note
    async with source.checkout(edge) as folder:
        assert (folder / "big.txt").exists()


async def test_a_folder_within_the_repository_will_do(repository: Repository, look_at: Look) -> None:
    head = repository.commit("One", files={"deploy/prod/pithead.yaml": ""})
    assert await look_at(repository.path / "deploy", repository="prod").head() == head


async def test_a_linked_worktree_of_the_user_will_do(repository: Repository, look_at: Look, tmp_path: Path) -> None:
    repository.commit("One")
    repository.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    source = look_at(tmp_path / "linked", poll_seconds=0.05)
    heads = source.watch()
    await anext(heads)
    two = repository.commit("Two")
    assert await anext(heads) == two
    await heads.aclose()


async def test_histories_without_a_common_commit_are_told(repository: Repository, look_at: Look) -> None:
    live = repository.commit("Live")
    repository.git("checkout", "--quiet", "--orphan", "new")
    head = repository.commit("New world")
    repository.git("branch", "--force", "main", "new")
    pending = await look_at(repository.path).commits(live, head)
    assert [commit.sha for commit in pending.commits] == [head]
    assert not pending.base_is_ancestor


async def test_the_count_is_right_when_the_list_is_cut(repository: Repository, look_at: Look) -> None:
    live = repository.commit("Live")
    head = repository.commits(50)
    pending = await look_at(repository.path, limit=7).commits(live, head)
    assert (len(pending.commits), pending.total) == (7, 50)
    assert pending.commits[0].sha == head
    assert all(commit.is_mainline for commit in pending.commits)


async def test_a_hook_that_calls_us_does_not_lead_us_to_its_own_repository(
    repository: Repository, look_at: Look, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    head = repository.commit("One")
    other = Repository(tmp_path / "other")
    other.commit("Other")
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.path))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.path / ".git" / "index"))
    before = other.state()
    source = look_at(repository.path)
    assert await source.head() == head
    async with source.checkout(head) as folder:
        assert (folder / "One.txt").exists()
    assert other.state() == before


async def test_settings_of_the_user_do_not_spoil_what_is_read(
    repository: Repository, look_at: Look, tmp_path: Path
) -> None:
    talkative = tmp_path / "gpg"
    talkative.write_text("#!/bin/sh\necho gpg: there is much to say >&2\nexit 1\n")
    talkative.chmod(0o755)
    live = repository.commit("Live", files={"a.txt": "1\n"})
    size = repository.commit("Größe", files={"a.txt": "2\n"})
    head = repository.raw_commit(b"Signed", headers=[b"gpgsig -----BEGIN PGP SIGNATURE-----", b" x"])
    for name, value in {
        "log.showSignature": "true",
        "gpg.program": str(talkative),
        "log.showRoot": "false",
        "log.date": "relative",
        "log.decorate": "full",
        "color.ui": "always",
        "core.pager": "false",
        "diff.external": "/bin/false",
        "diff.noprefix": "true",
        "i18n.logOutputEncoding": "latin1",
        "format.pretty": "oneline",
        "core.quotePath": "true",
    }.items():
        repository.git("config", name, value)
    source = look_at(repository.path)
    signed, commit = (await source.commits(live, head)).commits
    assert (signed.sha, signed.subject) == (head, "Signed")
    assert (commit.sha, commit.subject, commit.added, commit.deleted) == (size, "Größe", 1, 1)
    assert [(change.path, change.added) for change in await source.changes(live)] == [("a.txt", 1)]


# ── messages that mean no good ───────────────────────────────────────────────────────────────────────────────────


async def test_escape_sequences_and_bidi_in_a_message_do_nothing(repository: Repository, look_at: Look) -> None:
    live = repository.commit("Live")
    head = repository.raw_commit(
        "\x1b[2J\x1b]0;owned\x07[red]Sub\u202eject\x07 é\r\n\r\nBody\x1b[31m\u200b\x9b5m\n\ttab\n".encode(),
        author="Ev\x1b[1mil\u202e <e@example.org>".encode(),
    )
    [commit] = (await look_at(repository.path).commits(live, head)).commits
    assert commit.subject == "[red]Sub\ufffdject␇ é"
    assert commit.body == "Body\ufffd\n\ttab"
    assert commit.author == "Evil\ufffd"


async def test_bytes_that_are_no_text_become_replacements(repository: Repository, look_at: Look) -> None:
    live = repository.commit("Live")
    head = repository.raw_commit(b"caf\xe9 \xff\n\nbody \xc3\x28\n", author=b"Ren\xe9 <r@example.org>")
    [commit] = (await look_at(repository.path).commits(live, head)).commits
    assert commit.subject.startswith("caf\ufffd")
    assert commit.author == "Ren\ufffd"
    assert "(" in commit.body


async def test_a_message_in_another_declared_encoding_is_read(repository: Repository, look_at: Look) -> None:
    live = repository.commit("Live")
    repository.git(
        "-c", "i18n.commitEncoding=latin1", "commit", "--quiet", "--allow-empty", "--file=-", stdin=b"caf\xe9"
    )
    [commit] = (await look_at(repository.path).commits(live, repository.head())).commits
    assert commit.subject == "café"


@pytest.mark.parametrize("message", [b"", b"\n\n", b" \t", b"\0\0\0"])
async def test_an_empty_message_is_an_empty_subject(repository: Repository, look_at: Look, message: bytes) -> None:
    live = repository.commit("Live")
    middle = repository.raw_commit(message)
    head = repository.commit("Head")
    pending = await look_at(repository.path).commits(live, head)
    assert [(commit.sha, commit.subject) for commit in pending.commits] == [(head, "Head"), (middle, "")]


async def test_a_body_of_ten_megabytes_is_cut_with_a_mark(repository: Repository, look_at: Look) -> None:
    live = repository.commit("Live")
    line = b"all work and no play makes a dull boy, and a long commit message.\n"
    repository.raw_commit(b"s" * 1_000_000 + b"\n\n" + line * (10_000_000 // len(line)))
    head = repository.commit("Head")
    newest, fat = (await look_at(repository.path).commits(live, head)).commits
    assert (len(fat.subject), fat.subject[-1]) == (300, "…")
    assert (len(fat.body), fat.body[-1]) == (2000, "…")
    assert newest.subject == "Head"


async def test_a_body_of_nothing_but_escape_sequences_is_marked_as_cut(repository: Repository, look_at: Look) -> None:
    live = repository.commit("Live")
    head = repository.raw_commit(b"Subject\n\n" + b"\x1b[31m" * 10_000 + b"the end")
    [commit] = (await look_at(repository.path).commits(live, head)).commits
    assert commit.body.endswith("…")


async def test_commits_are_listed_without_sizes_when_counting_takes_too_long(
    repository: Repository, look_at: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = repository.commit("Live")
    head = repository.commit("New", files={"a.txt": "1\n"})
    monkeypatch.setattr(git_repository, "SIZES_TIMEOUT_SECONDS", -1.0)
    [commit] = (await look_at(repository.path).commits(live, head)).commits
    assert (commit.sha, commit.subject, commit.files, commit.is_mainline) == (head, "New", 0, True)


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_tag_on_the_branch_names_its_commit(repository: Repository, look_at: Look) -> None:
    one = repository.commit("One")
    repository.git("tag", "-a", "-m", "First", "v1.0")
    repository.commit("Two")
    source = look_at(repository.path)
    assert await source.resolve("v1.0") == one
    assert await source.resolve("refs/tags/v1.0") == one


async def test_a_ref_beside_the_branch_is_refused(repository: Repository, look_at: Look) -> None:
    repository.commit("One")
    repository.switch("side", "main")
    repository.commit("Side")
    with pytest.raises(CheckFailed, match="not on main") as caught:
        await look_at(repository.path).resolve("side")
    assert caught.value.mend


async def test_a_name_of_a_tag_and_a_branch_is_refused(repository: Repository, look_at: Look) -> None:
    repository.commit("One")
    repository.git("tag", "v1")
    repository.commit("Two")
    repository.git("branch", "v1")
    source = look_at(repository.path)
    with pytest.raises(CheckFailed, match="may be any of"):
        await source.resolve("v1")
    assert await source.resolve("refs/heads/v1") == repository.head()


async def test_digits_of_two_commits_are_refused_with_both_of_them(repository: Repository, look_at: Look) -> None:
    repository.commit("Root")
    first, second = _two_messages_with_one_prefix(repository)
    shas = []
    for message in (first, second):
        shas.append(repository.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=message))
    source = look_at(repository.path)
    assert shas[0][:6] == shas[1][:6]
    with pytest.raises(CheckFailed, match="may be any of") as caught:
        await source.resolve(shas[0][:6])
    assert all(sha[:12] in caught.value.message for sha in shas)
    assert await source.resolve(shas[1]) == shas[1]


def _two_messages_with_one_prefix(repository: Repository) -> tuple[bytes, bytes]:
    tree = repository.head("HEAD^{tree}")
    seen: dict[str, bytes] = {}
    for number in range(1_000_000):
        raw = f"tree {tree}\nauthor A <a@b.c> {number} +0000\ncommitter A <a@b.c> {number} +0000\n\nMessage\n".encode()
        prefix = hashlib.sha1(b"commit %d\0%s" % (len(raw), raw), usedforsecurity=False).hexdigest()[:6]
        if prefix in seen:
            return seen[prefix], raw
        seen[prefix] = raw
    raise AssertionError("no two messages with one prefix")


@pytest.mark.parametrize(
    "options",
    [
        {"branch": "--upload-pack=evil"},
        {"branch": "a..b"},
        {"branch": "a b"},
        {"branch": ""},
        {"branch": "a\n"},
        {"branch": "x.lock"},
        {"branch": "@"},
        {"remote": "-x"},
        {"poll_seconds": 0},
        {"limit": 0},
        {"url": "x"},
    ],
)
def test_options_that_git_would_take_wrong_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GitOptions.model_validate(options)


@pytest.mark.parametrize("branch", ["main", "release/1.x", "füße", "feature#1", "a-b_c+d"])
async def test_branches_of_any_lawful_name_are_followed(repository: Repository, look_at: Look, branch: str) -> None:
    head = repository.commit("One")
    repository.git("branch", "--force", "-m", branch)
    assert await look_at(repository.path, branch=branch).head() == head


def test_every_option_is_described() -> None:
    assert all(field.description for field in GitOptions.model_fields.values())


# ── watching ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_branch_at_rest_is_watched_without_starting_git(
    repository: Repository, look_at: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("One")
    heads = look_at(repository.path, poll_seconds=0.05).watch()
    await anext(heads)
    repository.git("pack-refs", "--all")
    two = repository.commit("Two")
    assert await anext(heads) == two

    starts = looks = 0
    real_start, real_stat = git_process._start, Path.stat

    def start(arguments: Sequence[str], environment: Mapping[str, str], guard: Guarded | None) -> Popen[bytes]:
        nonlocal starts
        starts += 1
        return real_start(arguments, environment, guard)

    def stat(path: Path, **options: bool) -> os.stat_result:
        nonlocal looks
        if path.name == "packed-refs":
            looks += 1
            if looks == 10:
                repository.commit("Three")
        return real_stat(path, **options)

    monkeypatch.setattr(git_process, "_start", start)
    monkeypatch.setattr(Path, "stat", stat)
    assert await anext(heads) == repository.head()
    assert looks >= 10
    assert starts == 1
    await heads.aclose()


async def test_a_branch_that_is_deleted_ends_the_watch_with_the_reason(repository: Repository, look_at: Look) -> None:
    repository.commit("One")
    heads = look_at(repository.path, poll_seconds=0.05).watch()
    await anext(heads)
    repository.git("branch", "--move", "other")
    with pytest.raises(BackendError, match="no branch 'main'"):
        await anext(heads)
