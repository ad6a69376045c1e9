"""Work that must not be left half done when its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Awaits `work` to its end. A cancellation that comes meanwhile is raised once the work is through."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                continue  # asked again: the answer is the same
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not report it: the cancellation comes first
        raise


async def all_or_none(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Awaits all of them at once. When one fails, the others are cancelled and its error is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread` that never leaves its thread running behind a cancelled caller's back."""
    return await finish(asyncio.to_thread(function, *args, **kwargs))
