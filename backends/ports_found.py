"""Finds free ports on the loopback address.

They are taken from below the range that the kernel gives to outgoing connections (32768 and up on Linux), so that a
port which is to be kept over restarts is not meanwhile the near end of somebody's connection.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Collection
from typing import Final

from pithead.delivery.ports import BackendError

LOOPBACK: Final = "127.0.0.1"
RANGE: Final = range(20_000, 32_000)

_TRIES: Final = 500


def free_port(taken: Collection[int] = ()) -> int:
    """A port that nobody listens on now, none of `taken`. It may be gone a moment later: whoever uses it looks."""
    for port in random.sample(RANGE, _TRIES):
        if port not in taken and is_free(port):
            return port
    raise BackendError(f"No free port on {LOOPBACK} between {RANGE.start} and {RANGE.stop}.", "End what listens there.")


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
