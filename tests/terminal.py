"""A program in a real pseudo-terminal, with a screen that is read back: what an operator would see, and how many bytes
it took to show it."""

from __future__ import annotations

import fcntl
import os
import pty
import queue
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

import psutil
import pyte


class Terminal:
    """`with Terminal([...], (columns, lines)) as terminal:`; the program gets SIGTERM at the end."""

    def __init__(
        self, command: Sequence[str], size: tuple[int, int] = (120, 36), environment: Mapping[str, str] | None = None
    ) -> None:
        columns, lines = size
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._turn = threading.RLock()
        self.bytes_read = 0
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._master = master
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **(environment or {})},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._chunks: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self._shown_at = time.perf_counter()
        self._changed = threading.Condition(self._turn)
        # Two threads, so that what is measured is when bytes came and not when pyte had drawn those before them.
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._draw)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                data = b""
            self._chunks.put((time.perf_counter(), data))
            if not data:
                return

    def _draw(self) -> None:
        while True:
            at, data = self._chunks.get()
            if not data:
                return
            with self._changed:
                self._take(data)
                self._shown_at = at
                self._changed.notify_all()

    def _take(self, data: bytes) -> None:
        self.bytes_read += len(data)
        self._stream.feed(data)

    def ended(self) -> int:
        """The exit status, once everything that was written has been read."""
        status = self.process.wait(20)
        for thread in self._threads:
            thread.join(5)
        return status

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def text(self) -> str:
        with self._turn:
            return self._text()

    def _text(self) -> str:
        return "\n".join(self._screen.display)

    def wait_for(self, condition: Callable[[str], bool], seconds: float = 20.0) -> float:
        """How long it took, in seconds, until the bytes came that made the screen meet the condition; TimeoutError with
        the screen if it did not."""
        begin = time.perf_counter()
        with self._changed:
            while not condition(self._text()):
                left = begin + seconds - time.perf_counter()
                if left <= 0:
                    raise TimeoutError(f"not seen within {seconds} s:\n{self._text()}")
                if self.process.poll() is not None:
                    raise RuntimeError(f"the program ended with {self.process.returncode}:\n{self._text()}")
                self._changed.wait(min(left, 0.5))
            return max(0.0, self._shown_at - begin)

    def cpu_seconds(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system
