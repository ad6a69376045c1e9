"""No secret is readable in what was masked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pithead.delivery.masking import MASK, SHORTEST, masker


def test_each_secret_is_replaced_wherever_it_stands() -> None:
    mask = masker(["hunter2", "s3cret-token"])
    assert mask("a hunter2b s3cret-token hunter2hunter2") == f"a {MASK}b {MASK} {MASK}{MASK}"


def test_the_longer_of_two_goes_first() -> None:
    assert masker(["pass", "password"])("my password") == f"my {MASK}"


def test_secrets_that_overlap_leave_no_part_of_either() -> None:
    assert masker(["abcdef", "defghi"])("xx abcdefghi yy") == f"xx {MASK} yy"


def test_the_lines_of_a_key_are_masked_one_by_one() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADAN\n  BgkqhkiG9w0B\n-----END KEY-----\n"
    mask = masker([key])
    assert "MIIEvQIBADAN" not in mask("log: MIIEvQIBADAN")
    assert "BgkqhkiG9w0B" not in mask("BgkqhkiG9w0B")


def test_what_looks_like_a_pattern_is_taken_literally() -> None:
    assert masker(["a.c*(d"])("abcd a.c*(d") == f"abcd {MASK}"


@pytest.mark.parametrize("secrets", [[], [""], ["abc"], ["\n\n"], ["  "]])
def test_nothing_to_hide_changes_nothing(secrets: list[str]) -> None:
    assert masker(secrets)("abc def\n") == "abc def\n"


words = st.text(st.characters(codec="ascii", exclude_categories=("Cc", "Zs")), min_size=SHORTEST, max_size=8)


@given(st.lists(words, min_size=1, max_size=4), st.lists(words | st.text(max_size=5), max_size=6))
def test_no_secret_is_left_in_any_text(secrets: list[str], parts: list[str]) -> None:
    mask = masker(secrets)
    for text in ("".join(parts), " ".join([*parts, *secrets]), "".join(secrets)):
        assert not [secret for secret in secrets if secret in mask(text)]
