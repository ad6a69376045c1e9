"""Lines are the same however their bytes arrive, and never take more memory than they may."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pithead.backends.output_lines import CUT_MARK, LONGEST_LINE, OutputLines

pieces = st.lists(
    st.sampled_from([b"a", b"\n", b"\r", b"\r\n", b"\xc3", b"\xa4", b"\xff", b"\0", "ä…".encode(), b"x" * 9000])
    | st.binary(max_size=20),
    max_size=30,
)


def lines_of(chunks: list[bytes]) -> list[str]:
    splitter = OutputLines()
    found = [line for chunk in chunks for line in splitter.feed(chunk)]
    return found + splitter.rest()


@given(pieces, st.integers(1, 5000))
def test_lines_do_not_depend_on_how_the_bytes_arrive(chunks: list[bytes], size: int) -> None:
    whole = b"".join(chunks)
    in_one = lines_of([whole])
    assert lines_of(chunks) == in_one
    assert lines_of([whole[start : start + size] for start in range(0, len(whole), size)]) == in_one


@given(pieces)
def test_no_line_is_longer_than_it_may_be_or_holds_a_line_end(chunks: list[bytes]) -> None:
    for line in lines_of(chunks):
        assert len(line) <= LONGEST_LINE + len(CUT_MARK)
        assert not {"\n", "\r", "\0"} & set(line)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), max_size=50)))
def test_text_comes_out_as_it_went_in(texts: list[str]) -> None:
    assert lines_of(["".join(f"{text}\n" for text in texts).encode()]) == texts


def test_an_endless_line_is_forgotten_as_it_comes() -> None:
    splitter = OutputLines()
    for _ in range(1000):
        assert splitter.feed(b"x" * 100_000) == []
        assert len(splitter._carry) < 5 * LONGEST_LINE
    assert splitter.rest() == ["x" * LONGEST_LINE + CUT_MARK]
