"""A small real service for tests, artifacts of it with good and bad manners, and users who send requests to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from pithead.delivery.ports import Artifact

SCRIPT = """
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

manners = json.loads(Path("manners.json").read_text())
print("starting", os.environ["PITHEAD_NAME"], flush=True)
if "exit" in manners:
    print("fatal: no database", file=sys.stderr)
    sys.exit(manners["exit"])
if "lost_port" in manners and not Path(manners["lost_port"]).exists():
    Path(manners["lost_port"]).touch()
    sys.exit("OSError: [Errno 98] Address already in use")
if manners.get("ignore_sigterm"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if manners.get("leave_child"):
    import subprocess
    subprocess.Popen(["sleep", "300"], start_new_session=True)
time.sleep(manners.get("start_seconds", 0))
born = time.monotonic()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/health":
            sick = Path(manners.get("sick", "/nonexistent")).exists()
            return self.answer(503 if sick else manners.get("health", 200), "health")
        if self.path == "/crash":
            os._exit(7)
        if self.path == "/reset":
            return self.cut(b"")
        if self.path == "/cut":
            return self.cut(b"HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\nabc")
        if self.path.startswith("/sleep/"):
            time.sleep(float(self.path.rpartition("/")[2]))
        if self.path == "/environment":
            return self.answer(200, json.dumps(dict(os.environ)))
        time.sleep(manners.get("seconds", 0))
        self.answer(500 if self.path == "/error" else 200, f"{os.environ['PITHEAD_COMMIT']} {os.getpid()}")

    do_POST = do_GET

    def answer(self, status, text):
        body = text.encode()
        # In one piece: two would wait 40 ms for each other's acknowledgement.
        self.wfile.write(b"HTTP/1.1 %d X\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (status, len(body), body))

    def cut(self, beginning):
        if beginning:
            self.wfile.write(beginning)
        self.connection.shutdown(2)
        self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


if manners.get("never_listen"):
    time.sleep(300)
server = Server(("127.0.0.1", int(os.environ["PORT"])), Handler)
server.serve_forever()
"""

START = f"exec {sys.executable} -S serve.py"


def artifact_of(folder: Path, name: str, **manners: object) -> Artifact:
    """An artifact as a builder would leave it, of a service with these manners. Its answers begin with `name`."""
    tree = folder / name
    tree.mkdir(parents=True)
    (tree / "serve.py").write_text(SCRIPT)
    (tree / "manners.json").write_text(json.dumps(manners))
    return Artifact(digest=f"{name}-digest", commit=name, location=str(tree))


@dataclass(frozen=True)
class Answer:
    """What one request came to. `commit` is empty when it failed."""

    sent: float
    ended: float
    status: int
    commit: str
    error: str = ""


@dataclass
class Users:
    """A steady stream of requests at `rate` per second over kept-alive connections, alternately GET and POST."""

    address: str
    rate: float = 250.0
    connections: int = 12
    path: str = "/"
    answers: list[Answer] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Users:
        self._task = asyncio.create_task(self._run())
        await self.some(20)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    @property
    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status != 200]

    def of(self, commit: str) -> list[Answer]:
        return [answer for answer in self.answers if answer.commit == commit]

    async def some(self, count: int) -> list[Answer]:
        """The next so many answers to requests that are sent from now on."""
        start, since = len(self.answers), time.monotonic()
        while True:
            found = [answer for answer in self.answers[start:] if answer.sent >= since]
            if len(found) >= count:
                return found
            assert time.monotonic() - since < 60, "the service does not answer"
            await asyncio.sleep(0.01)

    async def _run(self) -> None:
        begun, turns = time.monotonic(), asyncio.Queue[int](maxsize=self.connections)
        workers = [asyncio.create_task(self._user(turns)) for _ in range(self.connections)]
        try:
            for number in range(10_000_000):
                await asyncio.sleep(max(0.0, begun + number / self.rate - time.monotonic()))
                await turns.put(number)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    async def _user(self, turns: asyncio.Queue[int]) -> None:
        connection = Connection(self.address)
        try:
            while True:
                number = await turns.get()
                self.answers.append(await connection.request("POST" if number % 2 else "GET", self.path))
        finally:
            connection.close()


class Connection:
    """One kept-alive connection; a failed request closes it and the next one opens another."""

    def __init__(self, address: str) -> None:
        host, _, port = address.removeprefix("http://").partition(":")
        self._place = host, int(port)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, timeout_seconds: float = 20.0) -> Answer:
        sent = time.monotonic()
        try:
            async with asyncio.timeout(timeout_seconds):
                status, body = await self._exchange(method, path)
        except (OSError, ValueError, IndexError, asyncio.IncompleteReadError) as error:
            self.close()
            return Answer(sent, time.monotonic(), 0, "", f"{type(error).__name__}: {error}")
        commit = body.partition(b" ")[0].decode() if status == 200 else ""
        return Answer(sent, time.monotonic(), status, commit, "" if status == 200 else body.decode()[:200])

    async def _exchange(self, method: str, path: str) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._place)
        reader, writer = self._streams
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        body = await reader.readexactly(length)
        if "connection: close" in head:
            self.close()
        return int(head.split()[1]), body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def get(address: str, path: str = "/", method: str = "GET") -> Answer:
    connection = Connection(address)
    try:
        return await connection.request(method, path)
    finally:
        connection.close()


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    """Asks again and again until it holds."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - other processes set no events
            await asyncio.sleep(0.01)
