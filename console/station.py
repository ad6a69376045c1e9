"""Opens what a command line or a runner works with: the journal that the config names, and the desk on top."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pithead.console.config_file import operator_of
from pithead.console.desk import Desk
from pithead.delivery.blueprint import Blueprint, TestPlan
from pithead.delivery.config import Config
from pithead.delivery.events import StepPlan
from pithead.delivery.journal import Journal
from pithead.delivery.logbook import LogBook
from pithead.delivery.masking import masker
from pithead.delivery.plain_text import plain
from pithead.delivery.secrets import SecretError, reveal_all


@contextmanager
def open_desk(config: Config) -> Iterator[Desk]:
    """The desk of the config's service; closes the journal when done."""
    journal = Journal(config.journal_url(), config.service)
    try:
        yield desk_of(config, journal)
    finally:
        journal.close()


def desk_of(config: Config, journal: Journal) -> Desk:
    return Desk(
        journal=journal,
        book=LogBook(journal),
        actor=operator_of(config),
        config_path=config.file,
        state_folder=config.state_folder(),
        environment=config.environment or "",
        target_name=config.target.name,
    )


def blueprint_of(config: Config) -> Blueprint:
    """SecretError when a test's environment refers to a secret that is not there."""
    canary = config.pipeline.canary
    return Blueprint(
        tests=tuple(
            TestPlan(
                name=test.name,
                line=test.command,
                timeout_seconds=test.timeout_seconds,
                retries=test.retries,
                environment=reveal_all(test.environment, config.folder),
            )
            for test in config.pipeline.tests
        ),
        steps=tuple(StepPlan(step.weight_percent, step.hold_seconds) for step in canary.steps),
        bake_seconds=config.pipeline.rollout.bake_seconds,
        interval_seconds=canary.interval_seconds,
        on_fail=canary.on_fail,
        on_error=canary.on_error,
        undecided=canary.undecided,
        metrics=config.metrics.watch,
    )


def cleaner(config: Config) -> Callable[[str], str]:
    """What every log line goes through before it is stored: secrets masked, nothing left that a terminal would obey."""
    values = []
    for secret in config.secrets():
        try:
            values.append(secret.reveal(config.folder))
        except SecretError:
            continue  # whoever needs it says so
    mask = masker(values)
    return lambda text: plain(mask(text))
