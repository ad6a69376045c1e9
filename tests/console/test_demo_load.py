"""The stream of requests: steady, cheap to believe, and honest about every request that its user did not get right."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pithead.console.demo import load
from pithead.console.demo.load import Load, carts

Answer = Callable[[int], bytes | None]


def http(status: int, commit: str = "c0ffee") -> bytes:
    return f"HTTP/1.1 {status} X\r\ncontent-length: 2\r\nx-commit: {commit}\r\n\r\nok".encode()


@asynccontextmanager
async def service(answer: Answer) -> AsyncIterator[int]:
    """Answers its n-th request with `answer(n)`; None closes the connection without a word."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")), 0)
                await reader.readexactly(length)
                count += 1
                said = answer(count)
                if said is None:
                    break
                writer.write(said)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def asked(tmp_path: Path, answer: Answer, rate: float = 200, seconds: float = 0.5) -> dict[str, Any]:
    async with service(answer) as port:
        stream = Load("127.0.0.1", port, carts("127.0.0.1"), rate, tmp_path / "tally.json", tmp_path / "log.tsv")
        await stream.run(seconds)
    found: dict[str, Any] = json.loads((tmp_path / "tally.json").read_text())
    return found


async def test_every_request_is_counted_and_logged(tmp_path: Path) -> None:
    tally = await asked(tmp_path, lambda _: http(200))
    assert 90 <= tally["requests"] <= 101
    assert tally["failed_requests"] == 0
    assert tally["commits"]["c0ffee"]["requests"] == tally["requests"]
    rows = [line.split("\t") for line in (tmp_path / "log.tsv").read_text().splitlines()]
    assert len(rows) == tally["requests"]
    assert all(float(sent) <= float(answered) for sent, answered, _, _ in rows)
    assert max(float(row[1]) for row in rows) == pytest.approx(tally["commits"]["c0ffee"]["last_at"], abs=0.001)


async def test_whatever_its_user_did_not_get_right_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PATIENCE_SECONDS", 0.3)
    answers = {
        1: http(500, "bad"),
        2: http(404),
        3: None,
        4: b"HTTP/1.1 200 OK\r\n\r\n",
        5: b"",
        6: b"nonsense\r\n\r\n",
    }
    tally = await asked(tmp_path, lambda n: answers.get(n, http(200)))
    kinds = ("failed_requests", "server_errors", "refused", "transport_errors", "timeouts")
    assert [tally[kind] for kind in kinds] == [6, 1, 1, 3, 1]
    assert tally["commits"]["bad"] | {"first_at": 0, "last_at": 0} == {
        "requests": 1, "failed": 1, "first_at": 0, "last_at": 0,
    }  # fmt: skip


async def test_nobody_there_is_failed_too(tmp_path: Path) -> None:
    async with service(lambda _: None) as port:
        pass
    stream = Load("127.0.0.1", port, carts("127.0.0.1"), 100, tmp_path / "tally.json", None)
    await stream.run(0.2)
    assert stream.tally.requests == stream.tally.transport_errors == stream.tally.failed_requests > 10


async def test_the_requests_are_those_that_the_demo_is_about() -> None:
    bodies = [json.loads(request.split(b"\r\n\r\n")[1]) for request in carts("host")]
    abroad = sum(body["country"] in ("NO", "CH") for body in bodies) / len(bodies)
    run_out = sum(body.get("coupon") == "WINTER23" for body in bodies) / len(bodies)
    assert abroad == pytest.approx(0.2, abs=0.06)
    assert run_out == pytest.approx(0.3, abs=0.06)
    assert carts("host") == carts("host")


def command(port: int, out: Path, *more: str) -> list[str]:
    program = (sys.executable, "-m", "pithead.console.demo.load")
    return [*program, "--address", f"http://127.0.0.1:{port}", "--rate", "100", "--out", str(out), *more]


async def test_it_ends_in_order_when_it_is_asked_to(tmp_path: Path) -> None:
    out = tmp_path / "tally.json"
    async with service(lambda _: http(200)) as port:
        process = await asyncio.create_subprocess_exec(*command(port, out), stdout=asyncio.subprocess.PIPE)
        await until(lambda: out.exists() and json.loads(out.read_text())["requests"] > 20)
        process.send_signal(signal.SIGTERM)
        told, _ = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 0
    assert json.loads(told.splitlines()[0])["event"] == "first_answer"
    assert json.loads(out.read_text())["failed_requests"] == 0


async def test_it_ends_when_whoever_started_it_is_gone(tmp_path: Path) -> None:
    out = tmp_path / "tally.json"
    async with service(lambda _: http(200)) as port:
        starter = (
            "import subprocess, sys, time\n"
            f"print(subprocess.Popen({command(port, out)!r}, stdout=subprocess.DEVNULL).pid, flush=True)\n"
            "time.sleep(60)\n"
        )
        parent = await asyncio.create_subprocess_exec(sys.executable, "-c", starter, stdout=subprocess.PIPE)
        assert parent.stdout is not None
        pid = int(await parent.stdout.readline())
        await until(lambda: out.exists())
        parent.kill()
        await parent.wait()
        await until(lambda: not is_alive(pid))


async def test_it_ends_when_its_folder_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    async with service(lambda _: http(200)) as port:
        stream = Load("127.0.0.1", port, carts("127.0.0.1"), 100, folder / "tally.json", None)
        work = asyncio.ensure_future(stream.run(60))
        await until(lambda: (folder / "tally.json").exists())
        (folder / "tally.json").unlink()
        folder.rmdir()
        await asyncio.wait_for(work, 10)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def until(condition: Callable[[], bool], patience: float = 20.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
