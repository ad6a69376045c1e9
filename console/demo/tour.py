"""The tour: the real screen on the demo's service, with a guide who starts releases and comments on what happens.

The guide is one more operator: it reads the journal and gives commands under its own name, from a thread of its own.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import replace
from types import TracebackType

from pithead.console.app import PitheadApp
from pithead.console.demo.history import Scenario
from pithead.console.demo.repository import Repository
from pithead.console.demo.script import ACTOR, FIRST, Chapter, Script, hint, next_start
from pithead.console.demo.setting import Pace, Setting, Users, open_setting
from pithead.console.desk import Desk
from pithead.delivery import events as e
from pithead.delivery import fold
from pithead.delivery.journal import Journal, JournalError
from pithead.delivery.ports import PortError
from pithead.delivery.state import ServiceState

LOOK_SECONDS = 0.2
PACE = Pace(step="10s", bake="6s")


def guide(scenario: Scenario | None) -> int:
    """Opens the screen with the tour, or with one scenario of it. The exit status is the screen's."""
    print("making a repository, a service and a place to run it …", file=sys.stderr, flush=True)  # noqa: T201
    with open_setting(PACE) as setting:
        script = write_script(setting.repository, scenario)
        app = PitheadApp(setting.desk, lambda state: hint(script, state))
        with Guide(setting, script) as leader:
            app.run()
        if leader.fault:
            print(f"the guide stopped: {leader.fault}", file=sys.stderr)  # noqa: T201
        print("cleaning up …", file=sys.stderr, flush=True)  # noqa: T201
    return app.return_code or 0


def write_script(repository: Repository, scenario: Scenario | None) -> Script:
    """A good commit and a bad one, or the scenario's commit alone; before them, what they are compared with."""
    kinds: tuple[Scenario, ...] = ("good", "errors") if scenario is None else (scenario,)
    commits = [repository.released[kind] for kind in kinds]
    first = Chapter(FIRST, repository.before(commits[0]))
    return Script((first, *(Chapter(kind, commit) for kind, commit in zip(kinds, commits, strict=True))))


class Guide:
    """Starts the chapters in their time, and the users as soon as there is something to ask."""

    def __init__(self, setting: Setting, script: Script) -> None:
        self._setting, self._script = setting, script
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guide", daemon=True)
        self._users: Users | None = None
        self.fault = ""
        """Why it stopped leading. That is no reason to end the console."""

    def __enter__(self) -> Guide:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        config = self._setting.config
        journal = Journal(config.journal_url(), config.service)
        desk = replace(self._setting.desk, journal=journal, actor=ACTOR)
        state = journal.fold()
        try:
            # Reading what is pending is what the first start waits for.
            desk.ensure_runner()
            while not self._over.wait(LOOK_SECONDS):
                state = fold.fold(journal.read(state.seq), state)
                self._look(desk, state)
        except (JournalError, PortError, OSError) as error:
            self.fault = str(error)
        finally:
            journal.close()

    def _look(self, desk: Desk, state: ServiceState) -> None:
        address = state.target.address if state.target else ""
        if state.live is not None and address and (self._users is None or self._users.are_gone):
            self._users = Users(self._setting.folder, address, keeps_log=False)
        commit = next_start(self._script, state, time.time())
        if commit is not None:
            desk.press(e.StartRequested(commit))
