"""The environment that the operator's commands and instances get: a clean one, so that nothing of Pithead's own leaks.

Tokens, proxies and settings of the shell that Pithead was started from stay out; what a command needs is written in
its configuration.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

KEPT: Final = ("PATH", "HOME", "LANG", "TMPDIR", "USER")


def clean_environment(added: Mapping[str, str]) -> dict[str, str]:
    """`KEPT` of ours as far as they are set, with `added` on top."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    kept.setdefault("PATH", os.defpath)
    return kept | dict(added)
