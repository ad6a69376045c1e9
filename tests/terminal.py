"""A program in a real pseudo-terminal, with a screen that is read back: what an operator would see, and how many bytes
it took to show it."""

from __future__ import annotations

import fcntl
import os
import pty
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
        self._turn = threading.Lock()
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
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

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
                return
            if not data:
                return
            with self._turn:
                self.bytes_read += len(data)
                self._stream.feed(data)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def text(self) -> str:
        with self._turn:
            return "\n".join(self._screen.display)

    def wait_for(self, condition: Callable[[str], bool], seconds: float = 20.0) -> float:
        """How long it took, in seconds, until the screen's text met the condition; TimeoutError with the screen if not."""
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            if condition(self.text()):
                return time.perf_counter() - begin
            if self.process.poll() is not None:
                raise RuntimeError(f"the program ended with {self.process.returncode}:\n{self.text()}")
            time.sleep(0.002)
        raise TimeoutError(f"not seen within {seconds} s:\n{self.text()}")

    def cpu_seconds(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system
