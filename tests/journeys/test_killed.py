"""`kill -9` of the runner wherever a release may stand, and the end of the terminal that it was started from.

Everything is real: a repository, a service of two instances behind Envoy, users who ask it all the time. After each
blow only what an operator would type next is done, `pithead wait`; the release has to come to its right end, with no
event lost, no request failed, no traffic where none was meant to be, and no process left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from pithead.console.registry import open_backends
from pithead.console.station import desk_of
from pithead.delivery import events as e
from pithead.delivery.config import load_config
from pithead.delivery.events import Event
from pithead.delivery.journal import Journal
from pithead.delivery.ports import Desired, Target

SERVICE = "shop"
WEIGHTS = (20, 60)
RATE = 60
INSTANCES = 2

SERVER = """\
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.send_header("X-Commit", os.environ["PITHEAD_COMMIT"])
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *words):
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
GATE = """\
# A stage that can be held: it begins, and goes on as long as its gate is shut.
echo $$ >> {folder}/$1.pids
while [ -e {folder}/$1.shut ]; do sleep 0.05; done
"""


@dataclass
class Works:
    """A service under Pithead, in a folder of its own."""

    folder: Path
    config_path: Path = field(init=False)
    environment: Mapping[str, str] = field(init=False)
    users: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.config_path = self.folder / "pithead.yaml"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            "PITHEAD_STATE": str(self.folder / "state"),
            "PITHEAD_CONFIG": str(self.config_path),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "TERM": "xterm-256color",
            "LANG": "C.UTF-8",
        }
        (self.folder / "gates").mkdir()
        (self.folder / "gate.sh").write_text(GATE.format(folder=self.folder / "gates"))
        self.git("init", "--quiet", "--initial-branch=main", "repository", at=self.folder)
        self.config_path.write_text(yaml.safe_dump(self._config()))
        self.config = load_config(self.config_path)
        self.journal = Journal(self.config.journal_url(), SERVICE)
        self.desk = desk_of(self.config, self.journal)

    def _config(self) -> dict[str, Any]:
        return {
            "service": SERVICE,
            "source": {"git": {"repository": "repository", "poll_seconds": 0.2}},
            "pipeline": {
                "build": {"archive": {"command": f"sh {self.folder}/gate.sh build"}},
                "tests": [{"name": "unit", "command": f"sh {self.folder}/gate.sh unit"}],
                "canary": {
                    "steps": [{"weight": weight, "hold": "800ms"} for weight in WEIGHTS],
                    "interval": "200ms",
                    "undecided": "continue",
                },
                "rollout": {"bake": "800ms"},
            },
            "target": {
                "process": {
                    "command": f"exec {sys.executable} -B server.py",
                    "instances": INSTANCES,
                    "drain": "200ms",
                    "readiness": {"path": "/"},
                }
            },
            "metrics": {
                "source": {"envoy": {}},
                "watch": [{"name": "errors", "kind": "ratio", "min_samples": 5}],
            },
        }

    # ── what a developer and an operator do ──────────────────────────────────────────────────────────────────────

    def git(self, *arguments: str, at: Path | None = None) -> str:
        who = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid", "-c", "commit.gpgSign=false")
        folder = at or self.folder / "repository"
        done = subprocess.run(
            ["git", *who, *arguments],
            cwd=folder,
            env=dict(self.environment),
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, subject: str) -> str:
        repository = self.folder / "repository"
        (repository / "server.py").write_text(SERVER)
        (repository / "README").write_text(f"{subject}\n{time.time_ns()}\n")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", subject)
        return self.git("rev-parse", "HEAD")

    def pithead(self, *arguments: str, status: int = 0, patience: float = 90.0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pithead.console.cli", *arguments],
            env=dict(self.environment),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=patience,
        )
        assert done.returncode == status, (
            f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.story()}"
        )
        return done.stdout

    def start(self, commit: str) -> int:
        """Starts a release up to the commit; its number. Without the command line, which costs a second each time."""
        asked = self.desk.press(e.StartRequested(commit))
        answer = self.until(lambda event: event.cause == asked.seq, asked.seq)
        assert answer.release is not None, answer
        return answer.release

    def kill_the_runner(self) -> int:
        holder = self.desk.runner()
        assert holder is not None, self.story()
        os.kill(holder.pid, signal.SIGKILL)
        return holder.pid

    # ── gates ────────────────────────────────────────────────────────────────────────────────────────────────────

    def shut(self, stage: str) -> None:
        (self.folder / "gates" / f"{stage}.shut").touch()
        (self.folder / "gates" / f"{stage}.pids").unlink(missing_ok=True)

    def open(self, stage: str) -> None:
        (self.folder / "gates" / f"{stage}.shut").unlink()

    def began(self, stage: str, times: int) -> list[int]:
        """The pids of the stage's attempts, once there are so many."""
        deadline = time.monotonic() + 30
        path = self.folder / "gates" / f"{stage}.pids"
        while True:
            pids = [int(line) for line in path.read_text().split()] if path.exists() else []
            if len(pids) >= times:
                return pids
            assert time.monotonic() < deadline, self.story()
            time.sleep(0.01)

    # ── what is seen ─────────────────────────────────────────────────────────────────────────────────────────────

    def events(self, after: int = 0) -> list[Event]:
        return self.journal.read(after, limit=100_000)

    def until(self, is_it: Callable[[Event], bool], after: int = 0) -> Event:
        """The first such event. Looks so often that little can have happened since."""
        deadline, at = time.monotonic() + 60, after
        while time.monotonic() < deadline:
            for event in self.events(at):
                at = event.seq
                if is_it(event):
                    return event
            time.sleep(0.005)
        raise AssertionError(f"it did not come so far\n{self.story()}")

    def wait_for(self, number: int, is_it: Callable[[e.Payload], bool]) -> Event:
        """The first such event of the release."""
        return self.until(lambda event: event.release == number and is_it(event.payload))

    def story(self) -> str:
        log = self.desk.state_folder / "runner.log"
        said = log.read_text(errors="replace")[-3000:] if log.exists() else ""
        told = [
            f"{ev.seq:>4} {ev.at:.3f} {ev.release} {ev.actor} {ev.kind} {e.encode(ev.payload)[:160]}"
            for ev in self.events()
        ]
        return "\n".join([*told[-60:], said])

    def target(self) -> Target:
        target: Target = open_backends(self.config).target
        return target

    def tally(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "requests.json").read_text())
        return found

    def processes(self) -> list[psutil.Process]:
        """All that belong to this folder, without the users."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid in (os.getpid(), self.users.pid if self.users else 0):
                    continue
                words = [process.cwd(), *process.cmdline(), process.environ().get("PITHEAD_STATE", "")]
                if process.status() != psutil.STATUS_ZOMBIE and any(str(self.folder) in word for word in words):
                    found.append(process)
        return found

    def begin_asking(self) -> None:
        deadline = time.monotonic() + 20
        while (seen := self.journal.fold().target) is None or not seen.address:
            assert time.monotonic() < deadline, self.story()
            time.sleep(0.05)
        self.users = subprocess.Popen(
            [
                *(sys.executable, "-m", "pithead.console.demo.load", "--address", seen.address, "--rate", str(RATE)),
                *("--get", "/", "--out", str(self.folder / "requests.json")),
            ],
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        while not (self.folder / "requests.json").exists():
            assert self.users.poll() is None
            time.sleep(0.05)

    def take_down(self) -> None:
        """Ends what is meant to go on; whatever else is left then should not be there."""
        if self.users is not None:
            self.users.terminate()
            self.users.wait()
        self.pithead("runner", "--stop")
        asyncio.run(self.target().apply(Desired(), _NoLog()))
        self.journal.close()


class _NoLog:
    async def write(self, lines: object) -> None: ...


class Split:
    """Watches, all the time, which share of the traffic the newer artifact really gets."""

    def __init__(self, works: Works) -> None:
        self._works = works
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), daemon=True)
        self.seen: list[tuple[float, str | None, str | None, int]] = []

    def __enter__(self) -> Split:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    async def _watch(self) -> None:
        target = self._works.target()
        while not self._over.is_set():
            observed = await target.observe()
            self.seen.append((time.time(), observed.stable, observed.canary, observed.weight))
            await asyncio.sleep(0.03)

    def check(self, number: int) -> None:
        """No share that no event had announced, and none after the last word that the traffic had returned."""
        events = [event for event in self._works.events() if event.release == number]
        digest = next(ev.payload.artifact.digest for ev in events if isinstance(ev.payload, e.ArtifactBuilt))
        steps = [(ev.at, ev.payload.weight) for ev in events if isinstance(ev.payload, e.StepEntered)]
        returned = [ev.at for ev in events if isinstance(ev.payload, e.TrafficReturned)]
        assert len(self.seen) > 20
        for at, stable, canary, weight in self.seen:
            share = 100 if stable == digest else weight if canary == digest else 0
            announced = max((step for entered, step in steps if entered <= at), default=0)
            assert share in (0, *WEIGHTS, 100), (share, self._works.story())
            assert share <= announced, (at, share, self._works.story())
            assert share == 0 or not returned or at < returned[0], (at, share, self._works.story())


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("works")
        patch.setenv("PITHEAD_STATE", str(folder / "state"))
        works = Works(folder)
        try:
            first = works.start(works.commit("Begin"))
            works.pithead("wait", str(first))
            works.begin_asking()
            yield works
        finally:
            works.take_down()
            _, alive = psutil.wait_procs(works.processes(), timeout=10)  # a runner that gave its lease up
            for process in alive:
                process.kill()
        assert not alive, f"processes were left behind: {alive}"


@pytest.fixture(autouse=True)
def in_order(works: Works) -> Iterator[None]:
    """Before and after each: one runner at most, the wanted instances, and a journal without a gap."""
    failed_before = works.tally()["failed_requests"]
    yield
    seqs = [event.seq for event in works.events()]
    assert seqs == list(range(1, len(seqs) + 1)), "an event is missing"
    assert works.tally()["failed_requests"] == failed_before, works.tally()
    assert works.journal.fold().unanswered == ()
    only_what_is_wanted(works)


def only_what_is_wanted(works: Works) -> None:
    """A runner, Envoy and the instances of the live artifact: nothing else, soon after."""
    deadline = time.monotonic() + 15
    while True:
        lines = [" ".join(process.cmdline()) for process in works.processes()]
        runners = [line for line in lines if "runner_process" in line]
        instances = [line for line in lines if "server.py" in line]
        proxies = [line for line in lines if "envoy" in line]
        others = set(lines) - {*runners, *instances, *proxies}
        if (len(runners), len(instances), len(proxies), len(others)) == (1, INSTANCES, 1, 0):
            return
        assert time.monotonic() < deadline, "\n".join(lines)
        time.sleep(0.1)


def outcome(works: Works, number: int) -> str:
    release = works.journal.fold().release(number)
    assert release is not None
    return release.outcome or ""


def comes_to_its_end(works: Works, number: int, split: Split, expected: str = "promoted") -> None:
    """What an operator types after the blow, and what has to follow."""
    before = works.journal.fold().runner
    works.pithead("wait", str(number), status=0 if expected == "promoted" else 1)
    after = works.journal.fold().runner
    assert before is not None
    assert after is not None
    assert after.epoch == before.epoch + 1, "one other runner took over"
    assert outcome(works, number) == expected, works.story()
    time.sleep(0.2)  # the watch of the split sees what is there after the end, too
    split.check(number)


@pytest.mark.parametrize("stage", ["build", "unit"])
def test_killed_in_a_stage_it_ends_the_stages_processes_and_is_begun_again(works: Works, stage: str) -> None:
    works.shut(stage)
    with Split(works) as split:
        number = works.start(works.commit(f"Killed in {stage}"))
        (pid,) = works.began(stage, 1)
        works.kill_the_runner()
        deadline = time.monotonic() + 15
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "the stage goes on without its runner"
            time.sleep(0.05)
        works.open(stage)
        comes_to_its_end(works, number, split)
    assert len(works.began(stage, 2)) == 2
    release = works.journal.fold().release(number)
    assert release is not None
    assert [run.attempt for run in release.stages if run.name == stage] == [2]


PLACES: Mapping[str, Callable[[e.Payload], bool]] = {
    "on its way to the first step": lambda p: isinstance(p, e.StepEntered) and p.step == 0,
    "while the first step is held": lambda p: isinstance(p, e.TrafficShifted) and p.step == 0,
    "while the weight changes": lambda p: isinstance(p, e.StepEntered) and p.step == 1,
    "while the second step is held": lambda p: isinstance(p, e.TrafficShifted) and p.step == 1,
    "on its way to all of the traffic": lambda p: isinstance(p, e.StepEntered) and p.step == len(WEIGHTS),
    "while it bakes": lambda p: isinstance(p, e.TrafficShifted) and p.step == len(WEIGHTS),
    "the moment that it went live": lambda p: isinstance(p, e.WentLive),
}


@pytest.mark.parametrize("place", PLACES)
def test_killed_on_its_way_it_goes_on_to_be_promoted(works: Works, place: str) -> None:
    with Split(works) as split:
        number = works.start(works.commit(f"Killed {place}"))
        works.wait_for(number, PLACES[place])
        works.kill_the_runner()
        if place == "the moment that it went live":
            # The release has ended with it: what waits for a runner is the next command.
            works.pithead("lock", "to see who answers")
            works.pithead("unlock")
            assert outcome(works, number) == "promoted", works.story()
        else:
            comes_to_its_end(works, number, split)


def test_killed_on_its_way_back_it_is_brought_back_all_the_same(works: Works) -> None:
    live = works.journal.fold().live
    with Split(works) as split:
        number = works.start(works.commit("Killed on its way back"))
        works.wait_for(number, PLACES["while the second step is held"])
        works.desk.press(e.AbortRequested("it is not liked"), number)
        works.wait_for(number, lambda p: isinstance(p, e.ReturnBegan))
        works.kill_the_runner()
        comes_to_its_end(works, number, split, "aborted")
    state = works.journal.fold()
    assert state.live == live
    assert state.lock is None


def test_killed_again_and_again_it_is_promoted_all_the_same(works: Works) -> None:
    with Split(works) as split:
        number = works.start(works.commit("Killed again and again"))
        for place in list(PLACES)[:5]:
            works.wait_for(number, PLACES[place])
            works.kill_the_runner()
            works.pithead("status")  # whatever the operator types next brings a runner
            deadline = time.monotonic() + 20
            while works.desk.runner() is None:
                assert time.monotonic() < deadline, works.story()
                time.sleep(0.02)
        works.pithead("wait", str(number))
    assert outcome(works, number) == "promoted", works.story()
    split.check(number)


# ── the terminal ─────────────────────────────────────────────────────────────────────────────────────────────────


class Terminal:
    """The console in a terminal of its own, which can be closed."""

    def __init__(self, works: Works) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, "-m", "pithead.console.cli"], dict(works.environment))
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        self._shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._master, 65536):
                self._shown += data

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + 40
        while words.encode() not in self._shown:
            assert time.monotonic() < deadline, self._shown[-2000:].decode(errors="replace")
            time.sleep(0.02)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def close(self) -> None:
        """As when the window is closed or the line breaks: the terminal is gone, and its session gets SIGHUP."""
        os.kill(self.pid, signal.SIGHUP)
        os.close(self._master)

    def status(self) -> int:
        """Of the console's end, as a shell reports it."""
        deadline = time.monotonic() + 20
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            assert time.monotonic() < deadline, "the console does not end"
            time.sleep(0.05)


@pytest.mark.parametrize("is_runner_killed", [False, True], ids=["alone", "and its runner killed"])
def test_the_terminal_is_closed_and_the_release_goes_on(works: Works, is_runner_killed: bool) -> None:
    works.pithead("runner", "--stop")
    sha = works.commit("Started from a terminal")
    terminal = Terminal(works)
    try:
        terminal.wait_for(sha[:7])
        terminal.type("s")
        with Split(works) as split:
            number = works.journal.fold().last_release + 1
            works.wait_for(number, PLACES["while the first step is held"])
            pids = {process.pid for process in works.processes()}
            assert terminal.pid in pids
            if is_runner_killed:
                works.kill_the_runner()
            terminal.close()
            assert terminal.status() in (0, 128 + signal.SIGHUP)
            works.pithead("wait", str(number))
            assert outcome(works, number) == "promoted", works.story()
            time.sleep(0.2)
        split.check(number)
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(terminal.pid, signal.SIGKILL)
            os.waitpid(terminal.pid, 0)
