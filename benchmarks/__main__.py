"""`python -m benchmarks [NAME …]`: runs the named benchmarks, or all; exit status 1 when a promised limit is not kept."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

# The pseudo-terminal that reads a screen back belongs to the tests, which are no package.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

NAMES = {
    "big_journal": "1,000,000 events and 10,000,000 log lines",
    "return_time": "from abort or roll-back to the canary's last request, at 200 requests/s",
    "keys": "from a key press to the runner's answer on the screen, under 5,000 log lines/s; the idle console",
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}. There are: {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    is_kept = True
    for name in names or NAMES:
        print(f"{name}: {NAMES[name]}", flush=True)
        begin = time.perf_counter()
        for figure in importlib.import_module(f"benchmarks.{name}").measure():
            print(figure, flush=True)
            is_kept = is_kept and figure.is_kept
        print(f"  ({time.perf_counter() - begin:.0f} s)", flush=True)
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
