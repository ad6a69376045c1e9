"""Which pending commits go live together, and which may not go out on their own. Pure: from the list of commits alone."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pithead.delivery.ports import Commit, Pending

_BY_SHA = re.compile(r"This reverts commit ([0-9a-f]{7,40})")
_BY_SUBJECT = re.compile(r'Revert "(.+)"', re.DOTALL)


def included(pending: Pending, target: str) -> tuple[Commit, ...]:
    """The pending commits that a release up to `target` takes live, newest first: the target and its ancestors."""
    reached = {target}
    found = []
    for commit in pending.commits:
        if commit.sha in reached:
            reached.update(commit.parents)
            found.append(commit)
    return tuple(found)


def held_back(pending: Pending) -> Mapping[str, str]:
    """Pending sha → the sha of the revert that it must not go out without."""
    held: dict[str, str] = {}
    pairs = [(reverted, commit.sha) for commit in pending.commits if (reverted := _reverted_by(pending, commit))]
    if not pairs:
        return held
    for commit in pending.commits:
        inside = {c.sha for c in included(pending, commit.sha)}
        for reverted, revert in pairs:
            if reverted in inside and revert not in inside:
                held[commit.sha] = revert
    return held


def contains_live(pending: Pending, target: str) -> bool:
    """Whether a release up to `target` keeps what is live; True when the branch itself does not contain the live commit."""
    if pending.base is None or not pending.base_is_ancestor:
        return True
    return any(pending.base in commit.parents for commit in included(pending, target))


def _reverted_by(pending: Pending, revert: Commit) -> str | None:
    """The pending commit that this one takes back: by the sha in its body, else the nearest older one of that subject."""
    older = [c for c in included(pending, revert.sha) if c.sha != revert.sha]
    by_sha = _BY_SHA.search(revert.body)
    if by_sha:
        return next((c.sha for c in older if c.sha.startswith(by_sha.group(1))), None)
    by_subject = _BY_SUBJECT.fullmatch(revert.subject)
    return next((c.sha for c in older if by_subject and c.subject == by_subject.group(1)), None)
