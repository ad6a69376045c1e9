"""A steady stream of real requests at a service, and an honest count of what became of each.

`python -m pithead.console.demo.load --address 127.0.0.1:PORT --rate 200 --out FILE [--seconds N] [--log FILE]`

Requests go out evenly spaced, whether or not earlier ones were answered, over connections that are kept alive. A
request has failed when its user did not get what was asked for: any status but 200, a broken connection, no answer in
time. Answers are told apart by their `x-commit` header. FILE is replaced as a whole five times a second; the log has a
line per request. It ends by itself: after its time, on SIGTERM, and when whoever started it is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

PATIENCE_SECONDS = 5.0
WRITE_SECONDS = 0.2
LONGEST_SECONDS = 600.0
SILENT_SECONDS = 1.0
MOST_AT_ONCE = 400
"""Requests under way; a service that answers none would else take all of our file descriptors."""


@dataclass(slots=True)
class Served:
    """What one commit answered. Times are Unix seconds of the answers' arrival."""

    requests: int = 0
    failed: int = 0
    first_at: float = 0.0
    last_at: float = 0.0


@dataclass(slots=True)
class Tally:
    """`failed_requests` is the sum of the four kinds below it. `not_sent`: while `MOST_AT_ONCE` were under way."""

    started_at: float = field(default_factory=time.time)
    at: float = 0.0
    requests: int = 0
    failed_requests: int = 0
    server_errors: int = 0
    refused: int = 0
    transport_errors: int = 0
    timeouts: int = 0
    not_sent: int = 0
    commits: dict[str, Served] = field(default_factory=dict)

    def count(self, outcome: str, commit: str, at: float) -> None:
        """`outcome` is the status in digits, `broken` or `late`."""
        self.requests += 1
        is_failed = outcome != "200"
        self.failed_requests += is_failed
        match outcome:
            case "200":
                pass
            case "broken":
                self.transport_errors += 1
            case "late":
                self.timeouts += 1
            case _ if outcome.startswith("5"):
                self.server_errors += 1
            case _:
                self.refused += 1
        if commit:
            served = self.commits.setdefault(commit, Served(first_at=at))
            served.requests += 1
            served.failed += is_failed
            served.last_at = at


class _Connection:
    """One kept-alive HTTP/1.1 connection, used by one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> tuple[str, str]:
        """(status, commit) of the answer. ConnectionError, EOFError or ValueError when there is none."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        await self._reader.readexactly(int(headers["content-length"]))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status_line.split(" ")[1], headers.get("x-commit", "")

    @property
    def is_open(self) -> bool:
        return not (self._reader.at_eof() or self._writer.is_closing())

    def close(self) -> None:
        self._writer.close()


class Load:
    """The stream. `run` returns when `stop` was set or the time is over, with every request accounted for."""

    def __init__(
        self, host: str, port: int, requests: Sequence[bytes], rate: float, out: Path, log: Path | None
    ) -> None:
        self._host, self._port = host, port
        self._requests, self._rate = requests, rate
        self._out, self._log = out, log
        self._idle: list[_Connection] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._lines: list[str] = []
        self._told: dict[str, str] = {}
        self.tally = Tally()
        self.stop = asyncio.Event()

    async def run(self, seconds: float) -> None:
        parent = os.getppid()
        writing = asyncio.ensure_future(self._keep_writing(parent))
        try:
            await self._send(seconds)
            if self._under_way:
                await asyncio.wait(self._under_way)
        finally:
            writing.cancel()
            for connection in self._idle:
                connection.close()
        self._write()

    async def _send(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        begin, sent = loop.time(), 0
        while not self.stop.is_set():
            now = loop.time() - begin
            if now >= seconds:
                return
            while sent <= now * self._rate:
                self._begin(self._requests[sent % len(self._requests)])
                sent += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), max(0.0005, sent / self._rate - now))

    def _begin(self, request: bytes) -> None:
        if len(self._under_way) >= MOST_AT_ONCE:
            self.tally.not_sent += 1
            return
        task = asyncio.ensure_future(self._ask(request))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _ask(self, request: bytes) -> None:
        sent_at = time.time()
        outcome, commit = "broken", ""
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                connection = await self._connection()
                outcome, commit = await connection.ask(request)
        except TimeoutError:
            outcome = "late"
        except (OSError, EOFError, ValueError, LookupError, asyncio.LimitOverrunError):
            outcome = "broken"
        if connection is not None and connection.is_open and outcome.isdigit():
            self._idle.append(connection)
        elif connection is not None:
            connection.close()
        at = time.time()
        self.tally.count(outcome, commit, at)
        if self._log is not None:
            self._lines.append(f"{sent_at:.4f}\t{at:.4f}\t{outcome}\t{commit}\n")

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
            connection.close()
        return _Connection(*await asyncio.open_connection(self._host, self._port))

    # ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _keep_writing(self, parent: int) -> None:
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            if os.getppid() != parent:
                self.stop.set()
            self._write()

    def _write(self) -> None:
        """A folder that is gone is the end of the demo that it belonged to."""
        self.tally.at = time.time()
        try:
            beside = self._out.with_name(f".{self._out.name}.{os.getpid()}")
            beside.write_text(json.dumps(asdict(self.tally)), "utf-8")
            beside.replace(self._out)
            if self._log is not None and self._lines:
                with self._log.open("a", encoding="utf-8") as file:
                    file.writelines(self._lines)
                self._lines.clear()
        except OSError:
            self.stop.set()
        self._tell_moments()

    def _tell_moments(self) -> None:
        """A line for the first answer of a commit, and one each time that it has fallen silent."""
        for commit, served in self.tally.commits.items():
            is_silent = served.last_at < self.tally.at - SILENT_SECONDS
            word, at = ("last_answer", served.last_at) if is_silent else ("first_answer", served.first_at)
            known = self._told.get(commit)
            if known != word and not (known == "last_answer" and word == "first_answer"):
                self._told[commit] = word
                print(json.dumps({"event": word, "commit": commit, "at": round(at, 4)}), flush=True)  # noqa: T201


def carts(host: str, count: int = 500) -> list[bytes]:
    """Requests of the shop's users: the same ones in each run, among them exports and coupons that have run out."""
    chance = random.Random(20)  # noqa: S311 - a mix of users, not a secret
    made = []
    for _ in range(count):
        lines = [
            {"sku": sku, "quantity": chance.randint(1, 4)}
            for sku in chance.sample(("tea", "coffee", "cocoa", "biscuits", "honey"), chance.randint(1, 4))
        ]
        cart: dict[str, object] = {"lines": lines}
        cart["country"] = chance.choices(("DE", "FR", "AT", "NL", "NO", "CH"), (35, 20, 15, 10, 12, 8))[0]
        coupon = chance.choices(("", "SPRING10", "TEAPARTY", "WINTER23"), (50, 15, 5, 30))[0]
        if coupon:
            cart["coupon"] = coupon
        body = json.dumps(cart).encode()
        head = f"POST /total HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        made.append(f"{head}\r\n\r\n".encode() + body)
    return made


def _get(host: str, path: str) -> list[bytes]:
    return [f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()]


def main(arguments: list[str]) -> int:
    """0, whatever the service answered; the tally says what that was."""
    parser = argparse.ArgumentParser(prog="load", description="A steady stream of requests, counted.")
    parser.add_argument("--address", required=True, help="HOST:PORT, with or without http:// before it.")
    parser.add_argument("--rate", type=float, default=150.0, help="Requests per second.")
    parser.add_argument("--seconds", type=float, default=LONGEST_SECONDS, help=f"At most {LONGEST_SECONDS:.0f}.")
    parser.add_argument("--out", type=Path, required=True, help="Where the tally goes, as JSON.")
    parser.add_argument("--log", type=Path, help="Where each request goes: sent, answered, outcome, commit.")
    parser.add_argument("--get", metavar="PATH", help="GET this instead of posting carts.")
    given = parser.parse_args(arguments)
    host, _, port = given.address.removeprefix("http://").rstrip("/").rpartition(":")
    requests = _get(host, given.get) if given.get else carts(host)
    asyncio.run(_run(host, int(port), requests, given))
    return 0


async def _run(host: str, port: int, requests: Sequence[bytes], given: argparse.Namespace) -> None:
    load = Load(host, port, requests, given.rate, given.out, given.log)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, load.stop.set)
    await load.run(min(given.seconds, LONGEST_SECONDS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
