"""What a benchmark gives: numbers with their unit and, where the project promises one, the limit."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """`limit` is the most (or with `is_least` the least) that the value may be; None when it is only told."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    is_least: bool = False

    @property
    def is_kept(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.is_least else self.value <= self.limit

    def __str__(self) -> str:
        limit = ""
        if self.limit is not None:
            sign = "≥" if self.is_least else "≤"
            limit = f"  {'ok' if self.is_kept else 'NOT KEPT'} ({sign} {self.limit:g} {self.unit})"
        return f"  {self.name:<62} {self.value:>12,.2f} {self.unit:<8}{limit}"


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile (0 to 1) with linear interpolation."""
    ordered = sorted(values)
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def distribution(name: str, values: Sequence[float], unit: str, limit: float | None = None) -> list[Figure]:
    """Median, 95th percentile and maximum; the limit is for the maximum."""
    return [
        Figure(f"{name}, median of {len(values)}", statistics.median(values), unit),
        Figure(f"{name}, p95", quantile(values, 0.95), unit),
        Figure(f"{name}, maximum", max(values), unit, limit),
    ]
