"""No contract test may leave a process behind."""

from __future__ import annotations

import pytest
from left_clean import alive, context, lines, no_process_left, wait_until_gone

__all__ = ["alive", "context", "lines", "no_process_left", "wait_until_gone"]


@pytest.fixture(autouse=True)
def _leaves_no_process(no_process_left: None) -> None:
    """For every test of this folder."""
