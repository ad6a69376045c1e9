"""Every event has its sentence, and no sentence does more than say something."""

from __future__ import annotations

import time
import unicodedata

from happenings import payloads, values
from hypothesis import given
from hypothesis import strategies as st

from pithead.delivery import events as e
from pithead.delivery.events import KINDS, Event
from pithead.widgets.events_pane import event_line
from pithead.widgets.words import style, words

AT = time.time()


def event(payload: e.Payload, release: int | None = 142) -> Event:
    return Event(7, "shop", release, AT, "ana", None, payload)


@given(st.sampled_from(sorted(KINDS)).flatmap(lambda kind: values(KINDS[kind])))
def test_every_kind_of_event_has_a_sentence(payload: e.Payload) -> None:
    assert words(event(payload)).strip()
    assert style(event(payload))


@given(payloads, st.integers(20, 120))
def test_a_row_of_the_events_pane_never_outgrows_it(payload: e.Payload, width: int) -> None:
    drawn = event_line(event(payload), width, AT)
    assert drawn.width <= width
    assert not {unicodedata.category(letter) for letter in drawn.text} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_it_said_no_and_the_tool_broke_are_told_apart() -> None:
    said_no = event(e.StageEnded("unit", 1, "failed", "exit status 1"))
    broke = event(e.StageEnded("unit", 1, "errored", "pytest: not found"))
    assert "failed: it said no" in words(said_no)
    assert "errored: a tool broke" in words(broke)
    assert style(said_no) != style(broke)


def test_a_promotion_reads_as_what_it_did() -> None:
    assert words(event(e.Promoted(5, 25))) == "promoted 5 % → 25 %"


def test_hostile_reasons_are_text() -> None:
    sentence = words(event(e.Refused("promote", "\x1b[2J[bold]gone[/bold]\n\n\x9b31m" + "x" * 10_000_000)))
    assert sentence.isprintable()
    assert "[bold]gone[/bold]" in sentence
    assert len(sentence) < 3_000


def test_an_event_of_a_later_version_is_named_as_unknown() -> None:
    assert "does not know" in words(event(e.Unknown("traffic_teleported")))
