"""The guard: a small process between Pithead and one command, so that the command never outlives its caller.

Started as `python -I -S guard.py LIFELINE REPORT GRACE PROGRAM [ARGUMENT…]`. LIFELINE is the reading end of a pipe
whose other end only the caller holds: when it closes, because the caller closed it or was killed with SIGKILL, or when
a SIGTERM comes, every descendant of the command gets SIGTERM and, GRACE seconds later, SIGKILL. The same happens to
what the command leaves running when it ends. On Linux the guard is a child subreaper, so that daemons that left their
session are found too; elsewhere it reaches the command's own process group only.

What became of the command is written to REPORT in one line: `exited STATUS`, `killed SIGNAL` or `unstartable ERRNO`.
The guard holds REPORT open until nothing of the command is left. It imports little, because every command waits for it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterable

KILL_PAUSE_SECONDS = 0.05
GIVE_UP_SECONDS = 10.0
"""How long SIGKILL is repeated: a process that is stuck in the kernel would hold the guard for ever."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Orphaned descendants become the guard's own children. Does nothing where the system has no such thing."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def prctl(option: int, value: int) -> None:
    if not sys.platform.startswith("linux"):
        return
    import ctypes  # costs 10 ms, and only Linux has a use for it

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def start(program: list[str], report: int) -> int:
    """The pid of the program, in a session of its own. Exec failures are written to `report`."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and the command would inherit that
            signal.signal(number, signal.SIG_DFL)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.execv(program[0], program)  # noqa: S606 - this is what the guard is for
    except OSError as error:
        tell(report, f"unstartable {error.errno}")
    finally:
        os._exit(127)


def tell(report: int, line: str) -> None:
    try:
        os.write(report, f"{line}\n".encode())
    except OSError:
        return  # the caller is gone, and with it everybody who would want to know


def descendants(root: int) -> list[int]:
    """All living processes below `root`, from one reading of /proc; empty where there is none."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def parents() -> Iterable[tuple[int, int]]:
    """(pid, parent's pid) of every process."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - pathlib costs 10 ms of import
    except OSError:
        return
    for name in names:
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                stat = file.read()
        except OSError:
            continue
        # The second field is the program's name in brackets and may itself hold brackets and blanks.
        yield int(name), int(stat[stat.rindex(b")") + 2 :].split()[1])


class Charge:
    """The command that the guard was given, with everything that it left behind."""

    def __init__(self, leader: int, report: int) -> None:
        self.leader = leader
        self.report = report
        self.has_ended = False

    def send(self, number: int) -> None:
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        try:
            os.killpg(self.leader, number)
        except (ProcessLookupError, PermissionError):
            return

    def reap(self) -> bool:
        """Collects the dead and reports the leader's end. False when no child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.leader:
                self.has_ended = True
                code = os.waitstatus_to_exitcode(status)
                line = f"exited {code}" if code >= 0 else f"killed {-code}"
                tell(self.report, line)

    def end(self, grace: float, wake: int) -> None:
        """SIGTERM, up to `grace` seconds of patience, then SIGKILL until nothing is left."""
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)
        deadline = time.monotonic() + grace
        while self.reap():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            await_wake(wake, left)
        while self.reap() and time.monotonic() < deadline + GIVE_UP_SECONDS:
            self.send(signal.SIGKILL)
            await_wake(wake, KILL_PAUSE_SECONDS)


def await_wake(wake: int, seconds: float) -> None:
    if select.select([wake], [], [], seconds)[0]:
        os.read(wake, 512)


def listen() -> tuple[int, list[int]]:
    """A descriptor that becomes readable with every signal, and the list to which SIGTERM adds itself."""
    wake, alarm = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(alarm, False)
    asked: list[int] = []
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    # Handlers and not SIG_IGN: the command would inherit the latter.
    for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    return wake, asked


def leave_the_output() -> None:
    """The guard must not keep the command's output open: its reader waits for the end of it."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def guard(lifeline: int, report: int, grace: float, program: list[str]) -> None:
    for descriptor in (lifeline, report):
        os.set_inheritable(descriptor, False)
    become_subreaper()
    wake, asked = listen()
    charge = Charge(start(program, report), report)
    leave_the_output()
    while not asked and not charge.has_ended:
        readable, _, _ = select.select([lifeline, wake], [], [])
        if lifeline in readable:
            break
        os.read(wake, 512)
        if not charge.reap():
            return
    charge.end(grace, wake)


if __name__ == "__main__":
    guard(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
