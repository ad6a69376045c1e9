"""The contract of `Builder`, and what the archive builder promises beyond it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pithead.backends.archive import ArchiveBuilder
from pithead.backends.artifact_pins import pin
from pithead.delivery.ports import BackendError, Builder, CheckFailed, Context

Make = Callable[..., Builder]
COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture(params=[ArchiveBuilder])
def make(request: pytest.FixtureRequest, context: Context) -> Make:
    """A builder with the options given, as the registry would make it. The tree under build is `context`'s config folder."""
    backend = request.param
    return lambda **options: backend(backend.Options.model_validate(options), context)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "web").mkdir(parents=True)
    (folder / "web" / "index.html").write_text("hello")
    (folder / "serve").write_text("#!/bin/sh\n")
    (folder / "serve").chmod(0o755)
    (folder / "latest").symlink_to("web/index.html")
    (folder / "empty").mkdir()
    (folder / ".git").write_text("gitdir: /somewhere/of/this/machine")
    return folder


def write_beside(packed: Path) -> None:
    packed.chmod(0o755)
    (packed / "scratch.db").touch()


async def test_an_artifact_holds_the_commits_tree(make: Make, tree: Path, lines: Any) -> None:
    artifact = await make().build(COMMIT, tree, lines)
    packed = Path(artifact.location)
    assert (packed / "web" / "index.html").read_text() == "hello"
    assert os.access(packed / "serve", os.X_OK)
    assert (packed / "latest").readlink() == Path("web/index.html")
    assert (packed / "empty").is_dir()
    assert not (packed / ".git").exists()
    assert artifact.commit == COMMIT
    assert artifact.size_bytes == len("hello") + len("#!/bin/sh\n")
    assert str(lines).startswith("Packed 2 files")


async def test_the_same_commit_twice_gives_the_artifact_that_exists(make: Make, tree: Path, lines: Any) -> None:
    builder = make(command="echo x >> ../built; cp serve made")
    first = await builder.build(COMMIT, tree, lines)
    second = await make(command="echo x >> ../built; cp serve made").build(COMMIT, tree, lines)
    assert first == second
    assert (tree.parent / "built").read_text() == "x\n", "it was built once"


async def test_another_way_to_build_is_another_build(make: Make, tree: Path, lines: Any) -> None:
    first = await make(command="echo $KIND > kind", environment={"KIND": "debug"}).build(COMMIT, tree, lines)
    second = await make(command="echo $KIND > kind", environment={"KIND": "release"}).build(COMMIT, tree, lines)
    assert first.digest != second.digest


async def test_the_digest_depends_on_the_tree_and_nothing_else(make: Make, tree: Path, lines: Any) -> None:
    first = await make().build(COMMIT, tree, lines)
    os.utime(tree / "serve", (1, 1))
    (tree / "serve").chmod(0o711)
    same = await make().build(OTHER, tree, lines)
    assert (same.digest, same.commit) == (first.digest, OTHER)
    (tree / "serve").chmod(0o644)
    assert (await make().build("c" * 40, tree, lines)).digest != first.digest


async def test_an_artifact_is_found_by_its_digest_until_it_is_gone(make: Make, tree: Path, lines: Any) -> None:
    artifact = await make().build(COMMIT, tree, lines)
    assert await make().find(artifact.digest) == artifact
    assert await make().find("0" * 64) is None
    assert await make().find("../../etc") is None


async def test_a_damaged_artifact_is_not_found_and_is_built_again(make: Make, tree: Path, lines: Any) -> None:
    artifact = await make().build(COMMIT, tree, lines)
    page = Path(artifact.location) / "web" / "index.html"
    page.chmod(0o644)
    page.write_text("hacked")
    assert await make().find(artifact.digest) is None
    again = await make().build(COMMIT, tree, lines)
    assert again == artifact
    assert page.read_text() == "hello"
    assert await make().find(artifact.digest) == artifact


async def test_what_a_service_writes_beside_its_files_does_not_damage_it(make: Make, tree: Path, lines: Any) -> None:
    artifact = await make().build(COMMIT, tree, lines)
    write_beside(Path(artifact.location))
    assert await make().find(artifact.digest) == artifact


async def test_a_build_command_that_fails_says_no(make: Make, tree: Path, lines: Any) -> None:
    with pytest.raises(CheckFailed, match="`echo broken >&2; exit 2` ended with exit status 2"):
        await make(command="echo broken >&2; exit 2").build(COMMIT, tree, lines)
    assert lines.lines == ["broken"]


async def test_a_build_that_takes_too_long_says_no(make: Make, tree: Path, lines: Any) -> None:
    with pytest.raises(CheckFailed, match="took longer than 300ms"):
        await make(command="sleep 60", timeout="300ms").build(COMMIT, tree, lines)


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "web/../../outside", "deep/up/.."])
async def test_a_link_that_leads_out_of_the_tree_is_refused(make: Make, tree: Path, lines: Any, target: str) -> None:
    (tree / "deep").mkdir()
    (tree / "deep" / "up").symlink_to("..")
    (tree / "way").symlink_to(target)
    with pytest.raises(CheckFailed, match=r"way is a link to .* outside the tree"):
        await make().build(COMMIT, tree, lines)


async def test_what_is_no_file_is_refused(make: Make, tree: Path, lines: Any) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(CheckFailed, match="pipe is neither a file, a folder nor a link"):
        await make().build(COMMIT, tree, lines)
    (tree / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
        with pytest.raises(CheckFailed, match="socket is neither"):
            await make().build(COMMIT, tree, lines)


async def test_odd_names_are_packed_and_shown_harmlessly(make: Make, tree: Path, lines: Any) -> None:
    odd = os.fsdecode(b"caf\xe9 \x1b[31m\n")
    (tree / odd).write_text("x")
    artifact = await make().build(COMMIT, tree, lines)
    assert (Path(artifact.location) / odd).read_text() == "x"
    assert await make().find(artifact.digest) == artifact
    (tree / f"{odd}-link").symlink_to("/etc/passwd")
    with pytest.raises(CheckFailed) as refusal:
        await make().build(OTHER, tree, lines)
    assert "\x1b" not in str(refusal.value)


async def test_nothing_is_left_of_a_build_that_was_cancelled(
    make: Make, tree: Path, lines: Any, context: Context
) -> None:
    build = asyncio.create_task(make(command="echo begun; sleep 60").build(COMMIT, tree, lines))
    await lines.wait_for("begun")
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert not list((context.state_folder / "artifacts").glob("*/tree"))
    assert await make(command="true").build(COMMIT, tree, lines)


async def test_two_builds_of_one_commit_at_once_build_once(make: Make, tree: Path, lines: Any) -> None:
    line = "echo x >> ../built; sleep 0.2"
    first, second = await asyncio.gather(*(make(command=line).build(COMMIT, tree, lines) for _ in range(2)))
    assert first == second
    assert (tree.parent / "built").read_text() == "x\n"


async def test_two_processes_build_one_commit_at_once_and_agree(tree: Path, context: Context) -> None:
    program = tree.parent / "build.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import asyncio
            from pathlib import Path
            from pithead.backends.archive import ArchiveBuilder
            from pithead.delivery.ports import Context

            class Quiet:
                async def write(self, lines): pass

            options = ArchiveBuilder.Options(command="echo x >> ../built; sleep 0.3")
            context = Context("shop", Path({str(context.state_folder)!r}), Path({str(tree.parent)!r}))
            artifact = asyncio.run(ArchiveBuilder(options, context).build("{COMMIT}", Path({str(tree)!r}), Quiet()))
            print(artifact.digest)
            """
        )
    )
    one, two = [
        await asyncio.create_subprocess_exec(sys.executable, str(program), stdout=subprocess.PIPE) for _ in range(2)
    ]
    digests = {(await process.communicate())[0] for process in (one, two)}
    assert (one.returncode, two.returncode) == (0, 0)
    assert len(digests) == 1
    assert (tree.parent / "built").read_text() == "x\n"


async def test_old_artifacts_go_but_not_those_in_use(make: Make, tree: Path, lines: Any, context: Context) -> None:
    builder = make(keep=2)
    built = []
    for number in range(5):
        (tree / "version").write_text(str(number))
        built.append(await builder.build(f"{number}" * 40, tree, lines))
        os.utime(Path(built[-1].location).parent / "artifact.json", (number, number))
        if number == 0:
            holder = context.state_folder / "holder.json"
            holder.write_text(built[0].digest)
            pin(built[0].location, holder)
    kept = [await builder.find(artifact.digest) is not None for artifact in built]
    assert kept == [True, False, False, True, True]
    holder.unlink()
    (tree / "version").write_text("last")
    await builder.build("9" * 40, tree, lines)
    assert await builder.find(built[0].digest) is None
    left = {path.name for path in (context.state_folder / "artifacts").iterdir() if path.name.startswith(".")}
    assert left == set()


async def test_a_state_folder_that_cannot_be_written_is_a_broken_tool(tree: Path, lines: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "a-file"
    blocked.touch()
    builder = ArchiveBuilder(ArchiveBuilder.Options(), Context("shop", blocked, tmp_path))
    with pytest.raises(BackendError, match="a-file"):
        await builder.build(COMMIT, tree, lines)
    assert not (await builder.check())[0].is_well


async def test_a_full_disk_is_a_broken_tool(
    make: Make, tree: Path, lines: Any, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pithead.backends.archive_tree._copy_file", no_room)
    with pytest.raises(BackendError, match="No space left on device"):
        await make().build(COMMIT, tree, lines)
    assert not list((context.state_folder / "artifacts").glob(".packing*"))


async def test_doctor_finds_a_missing_program(make: Make) -> None:
    findings = await make(command="CC=clang no-such-compiler -O2").check()
    assert [finding.is_well for finding in findings] == [True, False]
    assert "no-such-compiler" in findings[1].detail
    assert all(finding.is_well for finding in await make(command="make all").check())


@pytest.mark.parametrize("options", [{"keep": 0}, {"comand": "make"}, {"timeout": 5}, {"command": "  "}])
def test_options_that_make_no_sense_are_refused(make: Make, options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        make(**options)
