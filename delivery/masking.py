"""Secrets are taken out of every text before it is stored, so that neither journal, log nor screen can show one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

SHORTEST = 4
"""A shorter value would be found in too many innocent words; the config refuses such secrets."""

MASK = "•••"


def masker(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that replaces each of the values, and each line of a value of several lines."""
    values = {line.strip() for secret in secrets for line in (secret, *secret.splitlines())}
    kept = sorted((value for value in values if len(value) >= SHORTEST), key=len, reverse=True)
    if not kept:
        return str
    # Looking ahead finds them where they overlap, too: masking the first alone would leave the end of the second.
    pattern = re.compile(f"(?=({'|'.join(re.escape(value) for value in kept)}))")

    def mask(text: str) -> str:
        parts, done = [], 0
        for found in pattern.finditer(text):
            begin, end = found.span(1)
            if begin >= done:
                parts += [text[done:begin], MASK]
            done = max(done, end)
        return "".join(parts) + text[done:] if done else text

    return mask
