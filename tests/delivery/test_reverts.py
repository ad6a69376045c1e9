"""Which commits go out together and which are held back, by example and on random histories."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pithead.delivery.ports import Commit, Pending
from pithead.delivery.reverts import contains_live, held_back, included

LIVE = hashlib.sha1(b"live", usedforsecurity=False).hexdigest()


def sha(name: object) -> str:
    return hashlib.sha1(str(name).encode(), usedforsecurity=False).hexdigest()


def commit(name: object, *parents: object, subject: str = "", body: str = "", is_mainline: bool = True) -> Commit:
    shas = tuple(parent if parent == LIVE else sha(parent) for parent in parents)
    return Commit(sha(name), shas, "Ada", 0.0, subject or f"Commit {name}", body, is_mainline=is_mainline)


def revert(name: object, parent: object, of: Commit, digits: int = 40) -> Commit:
    body = f"This reverts commit {of.sha[:digits]}.\n\nIt broke the shop.\n"
    return commit(name, parent, subject=f'Revert "{of.subject}"', body=body)


def pending(*newest_first: Commit, base: str | None = LIVE) -> Pending:
    return Pending(base, newest_first[0].sha, newest_first, len(newest_first))


def line(*oldest_first: Commit) -> Pending:
    """These commits, one on top of the other, on the live one."""
    parents = (LIVE, *(one.sha for one in oldest_first))
    chained = [replace(one, parents=(parent,)) for one, parent in zip(oldest_first, parents, strict=False)]
    return pending(*reversed(chained))


X, Y, Z = commit("x"), commit("y"), commit("z")


# ── by example ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_release_takes_the_target_and_what_is_below_it() -> None:
    history = line(X, Y, Z)
    assert [one.subject for one in included(history, Y.sha)] == ["Commit y", "Commit x"]


def test_a_release_of_what_is_not_pending_takes_nothing() -> None:
    assert included(line(X, Y), LIVE) == ()
    assert included(line(X, Y), sha("elsewhere")) == ()


def test_a_commit_and_all_up_to_its_revert_are_held_back() -> None:
    back = revert("back", "y", X)
    assert held_back(line(X, Y, back, Z)) == {X.sha: back.sha, Y.sha: back.sha}


@pytest.mark.parametrize("digits", [7, 12, 40])
def test_the_reverted_commit_is_found_by_the_beginning_of_its_sha(digits: int) -> None:
    back = replace(revert("back", "y", X, digits), subject="Undo the damage")
    assert held_back(line(X, Y, back)) == {X.sha: back.sha, Y.sha: back.sha}


def test_six_digits_are_too_few_to_name_a_reverted_commit() -> None:
    back = replace(revert("back", "y", X, 6), subject="Undo the damage")
    assert held_back(line(X, Y, back)) == {}


@pytest.mark.parametrize("suffix", ["", " (#124)"])
def test_the_reverted_commit_is_found_by_its_subject(suffix: str) -> None:
    bad = replace(X, subject='Say "hello" (#123)')
    back = commit("back", subject=f'Revert "Say "hello" (#123)"{suffix}')
    assert held_back(line(bad, Y, back)) == {bad.sha: back.sha, Y.sha: back.sha}


def test_a_change_that_came_back_under_the_same_subject_is_free() -> None:
    back = commit("back", subject='Revert "Commit x"')
    again = replace(commit("again"), subject="Commit x")
    assert held_back(line(X, back, again)) == {X.sha: back.sha}


def test_a_subject_reverts_the_nearest_earlier_commit_of_that_subject() -> None:
    again = replace(commit("again"), subject="Commit x")
    back = commit("back", subject='Revert "Commit x"')
    assert held_back(line(X, Y, again, back)) == {again.sha: back.sha}


def test_a_revert_of_what_is_live_already_holds_nothing_back() -> None:
    gone = commit("gone")
    assert held_back(line(X, revert("back", "x", gone), Y)) == {}


def test_a_sha_that_is_only_quoted_reverts_nothing() -> None:
    talk = replace(Y, body=f"See why: 'This reverts commit {X.sha}' was a bad idea.")
    assert held_back(line(X, talk)) == {}


def test_one_commit_may_revert_several() -> None:
    back = replace(Z, body=f"This reverts commit {X.sha}.\nThis reverts commit {Y.sha[:10]}.")
    other = commit("other")
    assert held_back(line(X, other, Y, back)) == {X.sha: back.sha, other.sha: back.sha, Y.sha: back.sha}


@pytest.mark.parametrize("again", ['Revert "Revert "Commit x""', 'Reapply "Commit x"'])
def test_a_revert_that_was_reverted_needs_the_last_of_them(again: str) -> None:
    """At the third commit all is as its authors want it; before it, something is live that somebody took back."""
    back = revert("back", "x", X)
    third = commit("third", subject=again)
    assert held_back(line(X, back, third, Y)) == {X.sha: third.sha, back.sha: third.sha}


def test_a_side_line_without_the_reverted_commit_is_free() -> None:
    bad = commit("bad", LIVE)
    back = revert("back", "bad", bad)
    side = commit("side", LIVE, is_mainline=False)
    merge = commit("merge", "back", "side")
    assert held_back(pending(merge, side, back, bad)) == {bad.sha: back.sha}


def test_a_merge_of_the_reverted_commit_without_its_revert_is_held_back() -> None:
    bad = commit("bad", LIVE)
    merge = commit("merge", "bad", "side")
    side = commit("side", LIVE)
    back = revert("back", "bad", bad)
    top = commit("top", "merge", "back")
    assert held_back(pending(top, back, merge, side, bad)) == {bad.sha: back.sha, merge.sha: back.sha}


def test_side_lines_that_revert_each_others_commits_name_what_is_really_lacking() -> None:
    x, y = commit("x", LIVE), commit("y", LIVE)
    without_x = commit("without x", "y", body=f"This reverts commit {x.sha}.")
    without_y = commit("without y", LIVE, body=f"This reverts commit {y.sha}.")
    both = commit("both", "x", "without y")
    head = commit("head", "without x", "both")
    held = held_back(pending(head, without_x, both, without_y, y, x))
    assert held[without_x.sha] == without_y.sha
    assert held[both.sha] == without_x.sha, "it contains the other revert already"


def test_a_side_line_that_forked_before_the_live_commit_would_take_it_away() -> None:
    main = commit("main", LIVE)
    side = commit("side", "before live")
    merge = commit("merge", "main", "side")
    history = pending(merge, side, main)
    assert [contains_live(history, one.sha) for one in history.commits] == [True, False, True]


def test_a_main_line_that_lacks_the_live_side_commit_would_take_it_away() -> None:
    main = commit("main", "before live")
    merge = commit("merge", "main", LIVE)
    history = pending(merge, main)
    assert [contains_live(history, one.sha) for one in history.commits] == [True, False]


def test_nothing_is_lost_when_nothing_is_live_or_the_branch_lost_it_already() -> None:
    history = pending(commit("b", "a"), commit("a"), base=None)
    assert contains_live(history, sha("a"))
    rewritten = replace(pending(commit("b", "a"), commit("a")), base_is_ancestor=False)
    assert contains_live(rewritten, sha("a"))


def test_the_live_commit_contains_itself_and_an_unknown_one_does_not_contain_it() -> None:
    assert contains_live(line(X), LIVE)
    assert not contains_live(line(X), sha("elsewhere"))


def test_a_list_that_was_cut_trusts_the_mainline_only() -> None:
    top = commit("top", "main", "side")
    history = replace(pending(top, commit("main", "x"), commit("side", "y", is_mainline=False)), total=900)
    assert [contains_live(history, one.sha) for one in history.commits] == [True, True, False]


# ── on random histories ──────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def histories(draw: st.DrawFn, is_line: bool = False) -> tuple[Pending, Mapping[str, tuple[str, ...]]]:
    """Pending commits below one head, and the whole graph: pending, live, and the history below the live commit."""
    older = [sha("root"), sha("before live")]
    graph = {older[0]: (), older[1]: (older[0],), LIVE: (older[1],)}
    made: list[Commit] = []
    for number in range(draw(st.integers(1, 12))):
        if is_line or not made:
            parents: Sequence[str] = [made[-1].sha if made else LIVE]
        else:
            known = [one.sha for one in made] + [LIVE, *older]
            parents = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))
        made.append(_maybe_a_revert(draw, made, number, tuple(parents)))
    tips = {one.sha for one in made} - {parent for one in made for parent in one.parents}
    if len(tips) > 1:
        made.append(Commit(sha("head"), (LIVE, *sorted(tips)), "Ada", 0.0, "Head"))
    graph |= {one.sha: one.parents for one in made}
    return pending(*reversed(made)), graph


def _maybe_a_revert(draw: st.DrawFn, made: Sequence[Commit], number: int, parents: tuple[str, ...]) -> Commit:
    plain = Commit(sha(number), parents, "Ada", 0.0, f"Subject {draw(st.integers(0, 3))}")
    if not made or draw(st.booleans()):
        return plain
    target = draw(st.sampled_from(made))
    subject = f'Revert "{target.subject}"'
    body = draw(st.sampled_from(["", f"This reverts commit {target.sha}.", f"This reverts commit {target.sha[:9]}."]))
    return replace(plain, subject=subject, body=body)


def ancestors(graph: Mapping[str, tuple[str, ...]], start: str) -> set[str]:
    found, todo = set(), [start]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += graph[one]
    return found


def pairs(history: Pending, graph: Mapping[str, tuple[str, ...]]) -> set[tuple[str, str]]:
    """Reverted and revert, straight from the definition."""
    found = set()
    for one in history.commits:
        by_sha = [x.sha for x in history.commits if one.body and x.sha.startswith(one.body.split()[3].rstrip("."))]
        below = [
            x.sha
            for x in history.commits
            if x.sha != one.sha and x.sha in ancestors(graph, one.sha) and one.subject == f'Revert "{x.subject}"'
        ]
        found |= {(x, one.sha) for x in (by_sha or below[:1])}
    return found


@given(histories())
def test_what_is_included_is_closed_and_in_order(
    history_and_graph: tuple[Pending, Mapping[str, tuple[str, ...]]],
) -> None:
    history, graph = history_and_graph
    for target in history.commits:
        taken = included(history, target.sha)
        below = ancestors(graph, target.sha)
        assert taken == tuple(one for one in history.commits if one.sha in below)
        assert taken[0] == target


@given(histories())
def test_what_is_held_back_contains_a_commit_without_its_revert(
    history_and_graph: tuple[Pending, Mapping[str, tuple[str, ...]]],
) -> None:
    history, graph = history_and_graph
    held = held_back(history)
    reverts = pairs(history, graph)
    for target in history.commits:
        below = ancestors(graph, target.sha)
        lacking = {r for x, r in reverts if x in below and r not in below}
        assert (target.sha in held) == bool(lacking)
        if lacking:
            assert held[target.sha] in {r for _, r in reverts}
            assert held[target.sha] not in below


@given(histories())
def test_the_head_is_never_held_back(history_and_graph: tuple[Pending, Mapping[str, tuple[str, ...]]]) -> None:
    history, _ = history_and_graph
    assert history.head not in held_back(history)


@given(histories(is_line=True))
def test_on_a_line_the_revert_that_is_needed_may_go_out(
    history_and_graph: tuple[Pending, Mapping[str, tuple[str, ...]]],
) -> None:
    history, _ = history_and_graph
    held = held_back(history)
    assert not set(held.values()) & set(held)


@given(histories())
def test_containing_the_live_commit_is_told_from_the_pending_ones_alone(
    history_and_graph: tuple[Pending, Mapping[str, tuple[str, ...]]],
) -> None:
    history, graph = history_and_graph
    # The source lists what the live commit lacks; of the random graph that may be less than all.
    live = ancestors(graph, LIVE)
    assert not live & {one.sha for one in history.commits}
    for target in history.commits:
        assert contains_live(history, target.sha) == (LIVE in ancestors(graph, target.sha))


def test_thousands_of_commits_that_all_revert_take_no_time() -> None:
    history = line(*(commit(n, body=f"This reverts commit {sha(n // 2)}.") for n in range(3000)))
    started = time.perf_counter()
    held = held_back(history)
    assert time.perf_counter() - started < 5
    assert len(held) > 1000
