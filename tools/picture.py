"""Draws docs/console.svg, the README's picture: the real screen on a real release of the demo's service.

`python tools/picture.py [FILE]`. It takes half a minute: the service is released, users ask it, a good commit follows,
and the screen is drawn when its canary has half of the traffic and a verdict.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from pithead.console.demo.setting import Pace, Setting, Users, open_setting
from pithead.console.picture import save_picture
from pithead.delivery import events as e
from pithead.delivery.state import ServiceState

SIZE = (120, 36)
PATIENCE_SECONDS = 90.0


def main(file: Path) -> None:
    with open_setting(Pace(step="14s", bake="3s")) as setting:
        commit = setting.repository.released["good"]
        setting.desk.press(e.StartRequested(setting.repository.before(commit)))
        _until(setting, lambda s: s.live is not None and s.in_flight is None and s.target is not None)
        target = setting.desk.journal.fold().target
        users = Users(setting.folder, target.address if target else "", keeps_log=False)
        try:
            users.wait_for(100)
            setting.desk.press(e.StartRequested(commit))
            _until(setting, lambda s: s.in_flight is not None and s.in_flight.step == 1)
            time.sleep(6.0)
            file.parent.mkdir(exist_ok=True)
            save_picture(file, setting.desk, SIZE)
        finally:
            users.end()


def _until(setting: Setting, holds: Callable[[ServiceState], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds(setting.desk.journal.fold()):
        if time.monotonic() > deadline:
            raise TimeoutError("the demo's release does not get on")
        time.sleep(0.1)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs" / "console.svg")
