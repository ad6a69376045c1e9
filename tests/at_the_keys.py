"""An operator at the keys of the real app, on a real journal: for tests of the screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from scenes import Scene
from textual import events
from textual._time import get_time
from textual.pilot import Pilot

from pithead.console.app import PitheadApp
from pithead.console.keys import BURST_SECONDS, REPEAT_SECONDS
from pithead.delivery import events as e
from pithead.delivery.events import Event

PATIENCE_SECONDS = 20.0


class Operator:
    """Presses keys, and reads what the screen and the journal say then."""

    def __init__(self, app: PitheadApp, pilot: Pilot[None], scene: Scene) -> None:
        self.app, self.pilot, self.scene = app, pilot, scene
        self._pressed: dict[str, float] = {}

    async def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"did not come about:\n{self.screen()}"
            await asyncio.sleep(0.01)
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        """One key after the other, as a hand would: so far apart that none is taken for a paste or a repeat."""
        for key in keys:
            since = get_time() - self._pressed.get(key, 0.0)
            await asyncio.sleep(max(0.0, REPEAT_SECONDS + 0.01 - since))
            self.send(key)
            self._pressed[key] = get_time()
            await asyncio.sleep(BURST_SECONDS + 0.02)
            await self.pilot.pause()

    def send(self, *keys: str, at: float | None = None) -> None:
        """Keys as the terminal would send them, all at once, or as if they had come at a told time."""
        for key in keys:
            event = events.Key(key, key if len(key) == 1 else {"enter": "\r", "space": " "}.get(key))
            event.set_sender(self.app)
            event.time = get_time() if at is None else at
            self.app.post_message(event)

    def screen(self) -> str:
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    @property
    def said(self) -> str:
        return self.app.home.why.said

    def wishes(self) -> list[Event]:
        return [event for event in self.scene.journal.tail(50) if isinstance(event.payload, e.WISHES)]

    @property
    def last_wish(self) -> Event:
        return self.wishes()[-1]


@asynccontextmanager
async def console(
    tmp_path: Path, state: str, size: tuple[int, int] = (120, 36), is_read_only: bool = False
) -> AsyncIterator[Operator]:
    scene = Scene(tmp_path)
    getattr(scene, state)()
    app = PitheadApp(scene.desk(), is_read_only=is_read_only)
    async with app.run_test(size=size) as pilot:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await app.is_settled()
        yield Operator(app, pilot, scene)
    scene.journal.close()
