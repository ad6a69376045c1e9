"""No skip goes unseen: each is listed at the end with its reason, and where services are meant to be there, it fails.

A test that needs something of the machine bears a mark `needs_…`. With CI=true or PITHEAD_NO_SKIPS=1 the skip of such
a test, or of a whole module, whose marks cannot be seen, makes the session's exit status a failure.
"""

from __future__ import annotations

import os

import pytest
from _pytest.terminal import TerminalReporter


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # with xdist, what the workers report arrives here
        config.pluginmanager.register(Skips(), "pithead-skips")


class Skips:
    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._forbidden: set[str] = set()
        self._are_forbidden = os.environ.get("CI") == "true" or os.environ.get("PITHEAD_NO_SKIPS") == "1"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            needs = any(name.startswith("needs_") for name in report.keywords)
            self._note(report, is_forbidden=self._are_forbidden and needs)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(report, is_forbidden=self._are_forbidden)

    def _note(self, report: pytest.TestReport | pytest.CollectReport, *, is_forbidden: bool) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        self._reasons[report.nodeid] = reason.removeprefix("Skipped: ")
        if is_forbidden:
            self._forbidden.add(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._forbidden and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        if not self._reasons:
            return
        terminalreporter.section(f"{len(self._reasons)} skipped", yellow=True)
        for test, reason in sorted(self._reasons.items()):
            mark = "NOT ALLOWED HERE  " if test in self._forbidden else ""
            terminalreporter.write_line(f"{mark}{test}: {reason}")
