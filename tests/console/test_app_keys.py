"""The gate between keyboard and action: a paste does nothing, a key that is held down acts once."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from pithead.console.keys import BURST_SECONDS, KeyGate, Stroke


class Clock:
    """Runs what is due as time goes on."""

    def __init__(self) -> None:
        self.now = 100.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def call_at(self, when: float, act: Callable[[], None]) -> None:
        self._due.append((when, len(self._due), act))

    def go_to(self, when: float) -> None:
        while self._due and min(self._due)[0] <= when:
            first = min(self._due, key=lambda item: item[:2])
            self._due.remove(first)
            self.now = first[0]
            first[2]()
        self.now = when


class Keyboard:
    def __init__(self) -> None:
        self.clock = Clock()
        self.acted: list[Stroke] = []
        self.pastes = 0
        self.gate = KeyGate(self.clock.call_at, self._paste)

    def _paste(self) -> None:
        self.pastes += 1

    def type(self, *keys: tuple[float, str]) -> list[str]:
        """Keys at seconds after the start; what came through in the end."""
        for at, key in keys:
            self.clock.go_to(100.0 + at)
            self.gate.hold(self.gate.note(key, 100.0 + at, None), self.acted.append)
        self.clock.go_to(200.0)
        return [stroke.key for stroke in self.acted]


def test_a_key_alone_acts_within_50_ms() -> None:
    keyboard = Keyboard()
    keyboard.gate.hold(keyboard.gate.note("p", 100.0, None), keyboard.acted.append)
    keyboard.clock.go_to(100.0 + BURST_SECONDS + 0.001)
    assert [stroke.key for stroke in keyboard.acted] == ["p"]


def test_three_keys_within_50_ms_do_nothing_and_it_is_said_once() -> None:
    keyboard = Keyboard()
    assert keyboard.type((0.0, "s"), (0.02, "p"), (0.04, "a"), (0.06, "P"), (0.08, "y")) == []
    assert keyboard.pastes == 1


def test_the_straggler_of_a_paste_does_nothing_either() -> None:
    keyboard = Keyboard()
    assert keyboard.type((0.0, "g"), (0.001, "o"), (0.002, "a"), (0.25, "p")) == []


def test_keys_count_again_after_a_pause() -> None:
    keyboard = Keyboard()
    assert keyboard.type((0.0, "g"), (0.001, "o"), (0.002, "a"), (0.5, "p")) == ["p"]


def test_the_same_letter_pasted_three_times_does_nothing() -> None:
    assert Keyboard().type((0.0, "s"), (0.001, "s"), (0.002, "s")) == []


def test_fast_typing_is_not_a_paste() -> None:
    assert Keyboard().type((0.0, "j"), (0.08, "k"), (0.16, "slash")) == ["j", "k", "slash"]


def test_looking_around_may_be_held_down_at_any_rate() -> None:
    assert len(Keyboard().type(*((n * 0.01, "j") for n in range(50)))) == 50


def test_a_held_key_is_seen_to_repeat_as_long_as_it_is_held() -> None:
    keyboard = Keyboard()
    keyboard.type((0.0, "p"), (0.5, "p"), *((0.5 + n * 0.03, "p") for n in range(1, 100)), (9.0, "p"))
    assert [stroke.is_repeat for stroke in keyboard.acted] == [False, *[True] * 100, False]


@given(st.lists(st.tuples(st.floats(0, 0.025), st.sampled_from("spPartly")), min_size=3, max_size=40))
def test_no_text_that_comes_at_paste_speed_does_anything(text: list[tuple[float, str]]) -> None:
    at, keys = 0.0, []
    for gap, letter in text:
        at += gap
        keys.append((at, letter))
    assert Keyboard().type(*keys) == []
