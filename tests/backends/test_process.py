"""What the process target promises beyond the contract: its own files, its own processes, its own Envoy."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from left_clean import context, lines, no_process_left, processes_in
from live_service import START, Users, artifact_of, get, until
from pydantic import ValidationError

from pithead.backends import detached_processes, envoy_proxy, log_files, process, process_traffic
from pithead.backends.envoy_admin import EnvoyAdmin
from pithead.backends.process import ProcessTarget
from pithead.backends.process_state import StateFolder
from pithead.backends.state_files import write_text
from pithead.delivery.ports import Artifact, BackendError, CheckFailed, Context, Desired

Make = Callable[..., ProcessTarget]

__all__ = ["context", "lines", "no_process_left"]
pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.fixture
async def make(context: Context) -> AsyncIterator[Make]:
    def made(**options: object) -> ProcessTarget:
        given = {"command": START, "readiness": {"path": "/health"}, "stop_grace": "1s", "instances": 1, **options}
        return ProcessTarget(ProcessTarget.Options.model_validate(given), context)

    yield made
    await made().teardown()


@pytest.fixture
def folder(context: Context) -> StateFolder:
    return StateFolder(context.state_folder / "target")


@pytest.fixture
def old(tmp_path: Path) -> Artifact:
    return artifact_of(tmp_path / "artifacts", "old", seconds=0.01)


@pytest.fixture
def new(tmp_path: Path) -> Artifact:
    return artifact_of(tmp_path / "artifacts", "new", seconds=0.01)


async def environment_of(address: str) -> dict[str, str]:
    async with httpx.AsyncClient() as client:
        given: dict[str, str] = (await client.get(f"{address}/environment")).json()
        return given


async def test_state_files_and_logs_are_private(make: Make, old: Artifact, lines: Any, folder: StateFolder) -> None:
    await make().apply(Desired(old), lines)
    for path in (folder.root, *folder.root.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, f"{path} has mode {mode:o}"


async def test_everything_listens_on_loopback_only(make: Make, old: Artifact, lines: Any, tmp_path: Path) -> None:
    await make().apply(Desired(old), lines)
    listening = [
        place.laddr.ip
        for running in processes_in(tmp_path)
        for place in running.net_connections("inet")
        if place.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 3, "an instance, the users' port, the admin port"
    assert set(listening) == {"127.0.0.1"}


async def test_an_instance_gets_a_clean_environment(
    make: Make, old: Artifact, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setenv("DATABASE_PASSWORD", "swordfish")
    target = make(environment={"GREETING": "hello", "PASSWORD": {"from_env": "DATABASE_PASSWORD"}})
    await target.apply(Desired(old), lines)
    given = await environment_of((await target.observe()).address)
    assert (given["GREETING"], given["PASSWORD"]) == ("hello", "swordfish")
    assert given["PORT"] == given["PITHEAD_PORT"]
    assert (given["PITHEAD_COMMIT"], given["PITHEAD_ARTIFACT"]) == ("old", "old-digest")
    assert "SECRET_TOKEN" not in given


async def test_the_port_may_be_written_into_the_command(make: Make, old: Artifact, lines: Any) -> None:
    target = make(command=f"p={{port}}; unset PORT; PORT=$p {START}")
    await target.apply(Desired(old), lines)
    assert (await get((await target.observe()).address)).commit == "old"


async def test_users_reach_the_service_at_the_port_that_was_chosen(make: Make, old: Artifact, lines: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        findings = {finding.subject: finding for finding in await make(port=port).check()}
        assert not findings["port for users"].is_well
        with pytest.raises(BackendError, match=f"Somebody else listens on 127.0.0.1:{port}"):
            await make(port=port).apply(Desired(old), lines)
    await make(port=port).apply(Desired(old), lines)
    assert (await make(port=port).observe()).address == f"http://127.0.0.1:{port}"
    assert all(finding.is_well for finding in await make(port=port).check())


async def test_another_port_moves_the_proxy(make: Make, old: Artifact, lines: Any) -> None:
    await make().apply(Desired(old), lines)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    await make(port=port).apply(Desired(old), lines)
    assert (await get(f"http://127.0.0.1:{port}")).commit == "old"


async def test_what_somebody_else_does_to_the_proxy_is_seen_and_put_right(
    make: Make, old: Artifact, new: Artifact, lines: Any
) -> None:
    target = make()
    await target.apply(Desired(old, new, 10), lines)
    admin = EnvoyAdmin((await target.observe()).arms["canary"].labels["envoy_admin"])
    await admin.set_split({"slot_a": 30, "slot_b": 90})
    assert (await target.observe()).weight == 75
    await target.apply(Desired(old, new, 10), lines)
    assert (await target.observe()).weight == 10


async def test_another_start_command_replaces_the_instances_without_a_dropped_request(
    make: Make, old: Artifact, lines: Any
) -> None:
    await make(instances=2).apply(Desired(old), lines)
    before = await make().observe()
    async with Users(before.address) as users:
        await make(instances=2, environment={"GREETING": "hello"}).apply(Desired(old), lines)
        await users.some(30)
    after = await make().observe()
    assert users.failures == []
    assert len(after.instances) == 2
    assert {one.started_at for one in before.instances}.isdisjoint({one.started_at for one in after.instances})
    assert (await environment_of(after.address))["GREETING"] == "hello"


async def test_a_canary_may_run_where_nothing_is_live(make: Make, new: Artifact, lines: Any) -> None:
    target = make()
    await target.apply(Desired(None, new, 100), lines)
    observed = await target.observe()
    assert (observed.stable, observed.canary, observed.weight) == (None, "new-digest", 100)
    assert (await get(observed.address)).commit == "new"
    await target.apply(Desired(None, new, 0), lines)
    assert (await get(observed.address)).status == 503
    await target.apply(Desired(new), lines)
    assert (await get(observed.address)).commit == "new"
    assert [one.started_at for one in (await target.observe()).instances] == [observed.instances[0].started_at]


async def test_an_instance_that_nobody_wrote_down_is_ended(
    make: Make, old: Artifact, lines: Any, folder: StateFolder, tmp_path: Path
) -> None:
    await make().apply(Desired(old), lines)
    stray = detached_processes.start(
        ["/bin/sh", "-c", "sleep 300 & sleep 300"], tmp_path, dict(os.environ), tmp_path / "log", folder.new_mark("x")
    )
    other = detached_processes.start(
        ["sleep", "300"], tmp_path, dict(os.environ), tmp_path / "log", "another-data-plane/x"
    )
    await make().apply(Desired(old), lines)
    assert not detached_processes.is_alive(stray)
    assert detached_processes.is_alive(other)
    await detached_processes.end([other, stray], 1.0)
    assert (await make().observe()).instances[0].state == "ready"


async def test_a_pid_that_was_given_to_another_process_is_not_ours(
    make: Make, old: Artifact, lines: Any, folder: StateFolder, tmp_path: Path
) -> None:
    await make().apply(Desired(old), lines)
    stranger = await asyncio.create_subprocess_exec("sleep", "300", start_new_session=True, cwd=tmp_path)
    plane = json.loads(folder.plane.path.read_text())
    await detached_processes.end(
        [detached_processes.Detached(one["process"]["pid"], one["process"]["born"]) for one in plane["instances"]], 1.0
    )
    plane["instances"][0]["process"]["pid"] = stranger.pid
    write_text(folder.plane.path, json.dumps(plane))
    assert (await make().observe()).instances[0].state == "failing"
    await make().apply(Desired(old), lines)
    assert (await make().observe()).instances[0].state == "ready"
    assert stranger.returncode is None, "it was left alone"
    stranger.kill()
    await stranger.wait()


@pytest.mark.parametrize("content", ["{", '{"instances": 5}'])
async def test_a_damaged_state_file_is_named(
    make: Make, old: Artifact, lines: Any, folder: StateFolder, content: str
) -> None:
    folder.make()
    write_text(folder.plane.path, content)
    with pytest.raises(BackendError, match=r"plane\.json is damaged"):
        await make().apply(Desired(old), lines)
    folder.plane.path.unlink()


async def test_traffic_leaves_a_canary_also_when_the_disk_is_full(
    make: Make, old: Artifact, new: Artifact, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make().apply(Desired(old, new, 50), lines)

    def full(*_: object) -> None:
        raise BackendError("traffic.json could not be written: No space left on device.")

    with monkeypatch.context() as patched:
        patched.setattr("pithead.backends.process_state.write_text", full)
        with pytest.raises(BackendError, match="No space left"):
            await make().apply(Desired(old), lines)
    assert (await make().observe()).weight == 0
    await make().apply(Desired(old), lines)
    assert len((await make().observe()).instances) == 1


async def test_traffic_leaves_a_canary_also_when_a_secret_is_gone(
    make: Make, old: Artifact, new: Artifact, lines: Any
) -> None:
    await make().apply(Desired(old, new, 50), lines)
    with pytest.raises(BackendError, match="NO_SUCH_VARIABLE is not set"):
        await make(environment={"PASSWORD": {"from_env": "NO_SUCH_VARIABLE"}}).apply(Desired(old), lines)
    assert (await make().observe()).weight == 0


async def test_a_state_folder_that_cannot_be_made_is_a_broken_tool(tmp_path: Path, old: Artifact, lines: Any) -> None:
    blocked = tmp_path / "a-file"
    blocked.touch()
    target = ProcessTarget(ProcessTarget.Options(command=START), Context("shop", blocked, tmp_path))
    with pytest.raises(BackendError, match="a-file"):
        await target.apply(Desired(old), lines)
    assert "state folder" in [finding.subject for finding in await target.check() if not finding.is_well]


async def test_a_missing_envoy_is_a_broken_tool_and_the_mend_is_named(
    make: Make, old: Artifact, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "envoy", None)
        patched.setattr("pithead.backends.envoy_proxy.shutil.which", lambda _: None)
        with pytest.raises(BackendError) as error:
            await make().apply(Desired(old), lines)
        assert error.value.mend == "pip install 'pithead[local]'"
        assert "Envoy" in [finding.subject for finding in await make().check() if not finding.is_well]
    assert (await make().observe()).instances == ()


async def test_an_envoy_that_hangs_is_told_and_waited_for(
    make: Make, old: Artifact, lines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pithead.backends.envoy_admin._TIMEOUT_SECONDS", 0.3)
    await make().apply(Desired(old), lines)
    (proxy,) = [one for one in processes_in(tmp_path) if one.name() == "envoy"]
    proxy.suspend()
    try:
        assert "does not answer" in (await make().observe()).note
        with pytest.raises(BackendError, match="does not answer"):
            await make().apply(Desired(old), lines)
    finally:
        proxy.resume()
    await make().apply(Desired(old), lines)
    assert (await make().observe()).note == ""


async def test_the_output_of_an_instance_stays_bounded(tmp_path: Path) -> None:
    log = tmp_path / "instance.log"
    log.write_bytes(b"early\n" + b"x" * log_files.LARGEST_BYTES + b"\nlate\n")
    with log.open("ab", buffering=0) as writer:
        log_files.bound(log)
        assert log.stat().st_size == 0
        writer.write(b"later\n")
    assert log_files.tail(log, 5) == ["later"]
    aside = log.with_name("instance.log.1")
    assert aside.stat().st_size == log_files.LARGEST_BYTES
    assert log_files.tail(aside, 1) == ["late"]
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600


async def test_hostile_last_words_are_shown_harmlessly(make: Make, tmp_path: Path, lines: Any) -> None:
    bad = artifact_of(tmp_path / "artifacts", "bad")
    command = "printf 'one \\033[2J\\033]0;owned\\007 two\\n' >&2; exit 4"
    with pytest.raises(CheckFailed) as refusal:
        await make(command=command).apply(Desired(bad), lines)
    assert "exit status 4" in refusal.value.message
    assert "\x1b" not in str(refusal.value)
    assert "\x07" not in str(refusal.value)


async def test_two_orders_at_once_from_two_objects_end_as_one_of_them(
    make: Make, old: Artifact, new: Artifact, lines: Any
) -> None:
    results = await asyncio.gather(
        *(make().apply(desired, lines) for desired in (Desired(old), Desired(old, new, 20), Desired(old, new, 20))),
        return_exceptions=True,
    )
    superseded = [result for result in results if isinstance(result, process_traffic.SupersededError)]
    assert [result for result in results if result is not None] == superseded
    assert len(superseded) <= 1, "the same order given twice is one order"
    assert (await make().observe()).weight == 20


async def test_restarts_under_watch_are_told_and_the_log_of_the_last_life_is_kept(
    make: Make, old: Artifact, lines: Any, folder: StateFolder
) -> None:
    await make().apply(Desired(old), lines)
    (before,) = (await make().observe()).instances
    address = (await make().observe()).address
    assert (await get(address, "/crash", "POST")).status == 503

    async def watch() -> None:
        async for _ in make().watch():
            pass

    watching = asyncio.create_task(watch())

    async def is_back() -> bool:
        (now,) = (await make().observe()).instances
        return now.state == "ready" and now.restarts == 1

    await until(is_back)
    watching.cancel()
    await asyncio.wait({watching})
    assert (await get(address)).commit == "old"
    assert folder.log_of(before.name).with_name(f"{before.name}.log.1").exists()


async def test_what_runs_is_kept_running_while_new_instances_are_waited_for(
    make: Make, old: Artifact, tmp_path: Path, lines: Any
) -> None:
    slow = artifact_of(tmp_path / "artifacts", "slow", start_seconds=60)
    target = make(instances=2)
    await target.apply(Desired(old), lines)
    before = await target.observe()
    starting = asyncio.create_task(target.apply(Desired(old, slow, 10), lines))
    await until(lambda: _has_instances(target, 3))
    (proxy,) = [one for one in processes_in(tmp_path) if one.name() == "envoy"]
    proxy.kill()
    next(one for one in processes_in(Path(old.location)) if "serve.py" in one.cmdline()).kill()

    async def are_back() -> bool:
        baseline = [one for one in (await target.observe()).instances if one.arm == "baseline"]
        return sorted((one.state, one.restarts) for one in baseline) == [("ready", 0), ("ready", 1)]

    await until(are_back)
    await until(lambda: _answers(before.address))
    assert not starting.done()
    await target.apply(Desired(old), lines)
    with pytest.raises(process_traffic.SupersededError):
        await starting


async def _has_instances(target: ProcessTarget, count: int) -> bool:
    return len((await target.observe()).instances) == count


async def _answers(address: str) -> bool:
    return (await get(address)).commit == "old"


async def test_a_proxy_that_is_started_late_goes_by_the_newest_order(
    make: Make, old: Artifact, new: Artifact, lines: Any, folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make().apply(Desired(old, new, 50), lines)
    real = envoy_proxy.start_proxy

    async def start_while_an_order_comes(*arguments: Any) -> Any:
        started = await real(*arguments)
        await process_traffic.give_order(folder, Desired(old))
        return started

    admin = EnvoyAdmin((await make().observe()).arms["canary"].labels["envoy_admin"])
    proxy = json.loads(folder.plane.path.read_text())["proxy"]["process"]
    await detached_processes.end([detached_processes.Detached(proxy["pid"], proxy["born"])], 1.0)
    monkeypatch.setattr("pithead.backends.process_convergence.start_proxy", start_while_an_order_comes)
    with pytest.raises(process_traffic.SupersededError):
        await make().apply(Desired(old, new, 50), lines)
    observed = await make().observe()
    assert observed.weight == 0
    assert observed.arms["canary"].labels["envoy_admin"] != admin.url


async def test_teardown_leaves_no_file(make: Make, old: Artifact, lines: Any, folder: StateFolder) -> None:
    await make().apply(Desired(old), lines)
    await make().teardown()
    assert not folder.root.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"command": ""},
        {"instances": 0},
        {"port": 70000},
        {"readiness": {"path": "health"}},
        {"readiness": {"path": "/a b\r\nX: y"}},
        {"drain": 5},
        {"comand": "x"},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    given = wrong if not wrong or "command" in wrong else {"command": "x", **wrong}
    with pytest.raises(ValidationError):
        ProcessTarget.Options.model_validate(given)


def test_the_target_is_found_under_its_name() -> None:
    assert process.ProcessTarget.Options.model_json_schema()["additionalProperties"] is False
