"""Leaving in order. Textual itself dies at once of SIGTERM and SIGHUP and leaves the terminal in disorder; and when the
terminal is gone without a signal, its input thread spins at 100 % of a core. Both end here, and never later than 3 s."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import threading
from collections.abc import Callable

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
PATIENCE_SECONDS = 3.0
LOOK_SECONDS = 1.0


def leave_on_signals(leave: Callable[[], None]) -> None:
    """Has the signals call `leave` in the event loop; a process that is still there 3 s later ends the hard way: nothing
    is lost by it, for the journal holds all that there is."""
    loop = asyncio.get_running_loop()

    def heard(number: signal.Signals) -> None:
        _end_later(128 + number)
        leave()

    for number in SIGNALS:
        loop.add_signal_handler(number, heard, number)


def _end_later(status: int) -> None:
    timer = threading.Timer(PATIENCE_SECONDS, os._exit, (status,))
    timer.daemon = True
    timer.start()


async def watch_terminal(leave: Callable[[], None]) -> None:
    """Calls `leave` when the terminal is gone. Returns at once where there is none (tests, pictures)."""
    stream = sys.__stdin__
    if stream is None or not stream.isatty():
        return
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            termios.tcgetattr(stream.fileno())
        except (termios.error, OSError):
            _end_later(128 + signal.SIGHUP)
            leave()
            return
