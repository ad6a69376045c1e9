"""Which pending commits a release takes along, and which must not go out without the revert that follows them.

A commit that was reverted while it was still pending is known to be bad: a release that would take it live without its
revert is held back (Shopify's Shipit locks such commits, `stack.rb#lock_reverted_commits!`; there the history is a
line, here it is a graph, and "between" means: contains the commit and lacks the revert).

All of it is pure and works on what is listed. A list that was cut at the source's limit is treated with care where that
matters, and the functions say how.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, takewhile

from pithead.delivery.ports import Commit, Pending

_REVERTED_SHA = re.compile(r"^[ \t]*+This reverts commit ([0-9a-f]{7,64})\b", re.MULTILINE | re.IGNORECASE)
# GitHub appends the number of the pull request; `git revert` of a revert says Reapply since git 2.43.
_REVERT_SUBJECT = re.compile(r'^Revert "(.*)"(?: \(#\d+\))?$')
_REAPPLY_SUBJECT = re.compile(r'^Reapply "(.*)"(?: \(#\d+\))?$')


class Ancestry:
    """Who contains whom among the commits, which stand children before parents.

    Sets are bits of an integer, bit i for commit i: a few thousand commits take about a megabyte and a few milliseconds.
    """

    def __init__(self, commits: Sequence[Commit]) -> None:
        self.commits = commits
        self.place = {commit.sha: place for place, commit in enumerate(commits)}
        self.contained = [1 << place for place in range(len(commits))]
        """By place: the commit itself and its ancestors."""
        self.containing = list(self.contained)
        """By place: the commit itself and its descendants."""
        for place in reversed(range(len(commits))):
            for parent in self._parents(place):
                self.contained[place] |= self.contained[parent]
        for place in range(len(commits)):
            for parent in self._parents(place):
                self.containing[parent] |= self.containing[place]

    def _parents(self, place: int) -> Iterator[int]:
        return (self.place[parent] for parent in self.commits[place].parents if parent in self.place)


def included(pending: Pending, target: str) -> tuple[Commit, ...]:
    """The pending commits that a release up to `target` takes live, newest first: itself and its ancestors.

    Nothing when the target is not among the pending commits.
    """
    reached = {target}
    found = []
    for commit in pending.commits:
        if commit.sha in reached:
            reached.update(commit.parents)
            found.append(commit)
    return tuple(found)


def held_back(pending: Pending) -> Mapping[str, str]:
    """For each pending commit that must not be released up to, the sha of the revert that has to go with it.

    Where that revert was itself reverted, it is the last of them. Reverts of what is live already hold nothing back.
    """
    ancestry = Ancestry(pending.commits)
    needs: dict[int, int] = {}
    settled = 0
    for revert, reverted in sorted(_pairs(ancestry)):
        held = ancestry.containing[reverted] & ~ancestry.containing[revert] & ~settled
        needs.update((place, revert) for place in _places(held))
        settled |= held
    shas = [commit.sha for commit in pending.commits]
    return {shas[place]: shas[revert] for place, revert in _last_reverts(ancestry, needs).items()}


def contains_live(pending: Pending, target: str) -> bool:
    """Whether a release up to `target` keeps what is live: False for a side branch that forked before the live commit.

    True for all when nothing is live, and when the branch itself lost the live commit, for then no target could keep it
    (`Pending.note` says so). Where the list was cut and does not reach down to the live commit, a commit of the mainline
    is taken to contain it, another is not.
    """
    if pending.base in (None, target) or not pending.base_is_ancestor:
        return True
    commits = included(pending, target)
    if any(pending.base in commit.parents for commit in commits):
        return True
    was_cut = len(pending.commits) < pending.total
    return was_cut and any(commit.sha == target and commit.is_mainline for commit in commits)


def _pairs(ancestry: Ancestry) -> Iterator[tuple[int, int]]:
    """The places of each revert and of each commit that it reverts: by the sha in its body, else by its subject."""
    shas = sorted(ancestry.place)
    by_subject: dict[str, list[int]] = {}
    for place, commit in enumerate(ancestry.commits):
        by_subject.setdefault(commit.subject, []).append(place)
    for revert, commit in enumerate(ancestry.commits):
        found = [sha for digits in _REVERTED_SHA.findall(commit.body) for sha in _beginning_with(shas, digits.lower())]
        if found:
            yield from ((revert, ancestry.place[sha]) for sha in found)
            continue
        subject = _reverted_subject(commit.subject)
        # The nearest earlier one: after a revert the same change often comes back under the same subject.
        earlier = (
            place for place in by_subject.get(subject, ()) if place > revert and ancestry.contained[revert] >> place & 1
        )
        yield from ((revert, place) for place in islice(earlier, 1))


def _beginning_with(shas: Sequence[str], digits: str) -> Iterator[str]:
    candidates = (shas[place] for place in range(bisect_left(shas, digits), len(shas)))
    return takewhile(lambda sha: sha.startswith(digits), candidates)


def _reverted_subject(subject: str) -> str:
    """The subject of what this one reverts; empty when it reverts nothing."""
    if found := _REVERT_SUBJECT.match(subject):
        return found[1]
    if found := _REAPPLY_SUBJECT.match(subject):
        return f'Revert "{found[1]}"'
    return ""


def _last_reverts(ancestry: Ancestry, needs: Mapping[int, int]) -> Mapping[int, int]:
    """By place, the revert at the end of the chain: it is of no use to be sent to a commit that is held back itself.

    On side by side branches that revert each other's commits a chain can lead back to what the commit already contains;
    then its first revert counts.
    """
    last: dict[int, int] = {}
    for place in sorted(needs):  # newest first, so that a newer revert's own need is known
        revert = needs[place]
        end = last.get(revert, revert)
        last[place] = revert if ancestry.contained[place] >> end & 1 else end
    return last


def _places(bits: int) -> Iterator[int]:
    """The bits that are set, lowest first. Through the binary digits, for shifting a long integer copies all of it."""
    return (place for place, digit in enumerate(reversed(bin(bits)[2:])) if digit == "1")
