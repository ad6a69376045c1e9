"""Durations are read with their unit and shown so that they read back as what they were."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from pithead.delivery.durations import LONGEST_SECONDS, Duration, DurationError, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("2d3h", 183_600),
        ("1.5h", 5400),
        (" 10s ", 10),
        ("0s", 0),
        ("0", 0),
        (0, 0),
        (0.0, 0),
    ],
)
def test_a_duration_is_read_in_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (5, "5 has no unit. Write 5s for seconds or 5m for minutes."),
        (1.5, "1.5 has no unit. Write 1.5s for seconds or 1.5m for minutes."),
        ("5", "'5' has no unit. Write 5s for seconds or 5m for minutes."),
        ("1:30", "'1:30' has no unit. Write 1m30s or 1h30m."),
        (-5, "-5 has no unit. Write a number with its unit"),
        (10**400, "a huge number has no unit. Write a number with its unit"),
        (float("nan"), "nan has no unit."),
        ("", "'' is not a duration."),
        ("5 minutes", "'5 minutes' is not a duration."),
        ("30m1h", "'30m1h' is not a duration."),
        ("-5s", "'-5s' is not a duration."),
        ("٣s", "'٣s' is not a duration."),
        ("5m\x1b[2J", r"'5m\x1b[2J' is not a duration."),
        ("400d", "'400d' is longer than a year."),
        ("9" * 400 + "s", "is longer than a year."),
        (True, "true is not a duration."),
        (None, "Expected a duration."),
        ([], "Expected a duration."),
    ],
)
def test_what_is_no_duration_is_refused_with_the_mend(value: object, says: str) -> None:
    with pytest.raises(DurationError) as refused:
        parse_duration(value)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.34, "340ms"),
        (0.9996, "1s"),
        (12.34, "12.3s"),
        (59.96, "1m"),
        (90, "1m30s"),
        (3600, "1h"),
        (5415, "1h30m15s"),
        (183_600, "2d3h"),
        (-90, "-1m30s"),
    ],
)
def test_a_duration_is_shown_with_its_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(min_value=0, max_value=LONGEST_SECONDS - 1))
def test_what_is_shown_reads_back(seconds: float) -> None:
    precision = 0.000_51 if seconds < 1 else 0.051 if seconds < 60 else 0.51
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=precision)


@given(st.one_of(st.text(max_size=20), st.integers(), st.floats(), st.none(), st.lists(st.integers())))
def test_anything_is_either_a_duration_or_refused_in_words(value: object) -> None:
    try:
        outcome: float | DurationError = parse_duration(value)
    except DurationError as error:
        outcome = error
    assert str(outcome).isprintable() if isinstance(outcome, DurationError) else 0 <= outcome <= LONGEST_SECONDS


def test_a_model_reads_it_and_its_schema_agrees() -> None:
    class Options(BaseModel):
        wait: Duration

    assert Options.model_validate({"wait": "1m"}).wait == 60
    with pytest.raises(ValidationError):
        Options.model_validate({"wait": 5})
    written = Options.model_json_schema()["properties"]["wait"]["anyOf"]
    pattern = next(form["pattern"] for form in written if "pattern" in form)
    assert {"const": 0} in written
    assert all(re.search(pattern, text) for text in ("500ms", "90s", "1h30m", "0", " 5m "))
    assert not any(re.search(pattern, text) for text in ("", " ", "5", "5 minutes", "1:30"))
