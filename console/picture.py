"""A picture of the real screen, for the README: the app runs without a terminal on a journal and is drawn as SVG."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from pithead.console.app import PitheadApp
from pithead.console.desk import Desk
from pithead.widgets.palette import FULL

PATIENCE_SECONDS = 30.0


def save_picture(path: Path, desk: Desk, size: tuple[int, int]) -> None:
    """Writes the screen of `size` (columns, rows) to `path`, as it is once everything in the journal was read.

    In full colour whatever the present terminal can, and without starting a runner.
    """
    path.write_text(asyncio.run(_picture(desk, size)), encoding="utf-8")


async def _picture(desk: Desk, size: tuple[int, int]) -> str:
    app = PitheadApp(desk, palette=FULL, starts_runners=False)
    async with app.run_test(size=size) as pilot:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await app.is_settled()
        await pilot.pause()
        return _with_blanks(_without_fonts(app.export_screenshot(title=f"pithead · {desk.service}")))


def _without_fonts(svg: str) -> str:
    """The picture without the fonts that it would load from elsewhere: whoever looks has one of fixed width."""
    return re.sub(r"@font-face\s*\{.*?\}\s*", "", svg, flags=re.DOTALL)


def _with_blanks(svg: str) -> str:
    """The picture with the blanks at the ends of its texts: some viewers drop them unless they are told not to."""
    return svg.replace("<svg ", '<svg xml:space="preserve" ', 1)
