"""The demo's watchdog: a process of its own that cleans up when the demo is over, however it ended.

Its standard input is a pipe whose other end only the demo holds. When that closes, because the demo let go of it or was
killed with SIGKILL, everything that belongs to the demo's folder is ended and the folder removed. There is no other way
of cleaning up, so that the one for accidents is the one that is used every day. What could not be cleaned up is printed,
for a demo that still listens.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main(folder: str) -> int:
    """0 when nothing is left of the demo."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        # Handlers and not SIG_IGN: a child would inherit the latter.
        signal.signal(number, lambda _number, _frame: None)
    while os.read(0, 1):
        pass
    from pithead.console.demo.cleaning import clean  # costs time and memory that waiting does not need

    problems = clean(folder)
    with contextlib.suppress(OSError):
        os.write(1, "\n".join(problems).encode(errors="replace"))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
