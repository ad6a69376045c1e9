"""Ending a task for certain: asked once, a task may swallow the cancellation (a backend that catches too much, or
`asyncio.wait_for` before Python 3.12), and whoever waits for its end would wait for ever."""

from __future__ import annotations

import asyncio
from typing import Any


async def end(work: asyncio.Future[Any] | None) -> None:
    """Returns when the work has ended, however; asks again each second."""
    while work is not None and not work.done():
        work.cancel()
        await asyncio.wait({work}, timeout=1.0)
