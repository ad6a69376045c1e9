"""Random journals for property tests: every kind of event, with values that sometimes fit together and often do not."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from pithead.delivery.events import KINDS, Event, NewEvent, Unknown

STAGES = ("build", "unit", "canary", "rollout")
SHAS = tuple(f"{n:x}" * 40 for n in range(10, 14))
SERVICE = "shop"

_text = st.text(max_size=12)
# Few names, so that random events hit each other: the same stage, the same release, the same artifact.
_BY_FIELD: Mapping[str, st.SearchStrategy[Any]] = {
    "stage": st.sampled_from(STAGES),
    "commit": st.sampled_from(SHAS),
    "digest": st.sampled_from(("sha256:1", "sha256:2", "sha256:3")),
    "step": st.integers(-1, 4),
    "weight": st.integers(0, 100),
    "to": st.none() | st.integers(1, 6),
    "release": st.integers(1, 6),
}


def values(kind: Any, name: str = "") -> st.SearchStrategy[Any]:
    """Any value of the annotated type."""
    if name in _BY_FIELD:
        return _BY_FIELD[name]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of(*(values(argument) for argument in arguments))
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return st.builds(kind, **{f.name: values(hints[f.name], f.name) for f in dataclasses.fields(kind)})
    return {
        int: st.integers(0, 400),
        float: st.floats(0, 1e6, allow_nan=False),
        str: _text,
        bool: st.booleans(),
        type(None): st.none(),
    }[kind]


unknown = st.builds(Unknown, st.sampled_from(("teleported", "x" * 60)), st.dictionaries(_text, st.integers() | _text))
payloads = st.one_of(unknown, *(values(cls) for cls in KINDS.values()))

new_events = st.builds(
    NewEvent,
    actor=st.sampled_from(("ann", "bob", "runner")),
    payload=payloads,
    release=st.none() | st.integers(1, 6),
    cause=st.none() | st.integers(1, 40),
)


def placed(news: list[NewEvent], first: int = 1) -> list[Event]:
    """The events as a journal would have placed them, a second apart."""
    return [
        Event(first + i, SERVICE, new.release, 1000.0 + i, new.actor, new.cause, new.payload)
        for i, new in enumerate(news)
    ]
