"""Amounts as the screen shows them: short, aligned, and as coarse as they can be without misleading."""

from __future__ import annotations

import time


def age(seconds: float) -> str:
    """How long ago: `now`, `5m`, `3h`, `2d`, `6w`, `2y`. Changes once a minute at most."""
    minutes = int(max(0.0, seconds) // 60)
    if minutes < 1:
        return "now"
    if minutes < 60:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 21:
        return f"{days}d"
    return f"{days // 7}w" if days < 365 else f"{days // 365}y"


def ago(seconds: float) -> str:
    words = age(seconds)
    return "just now" if words == "now" else f"{words} ago"


def clock(seconds: float) -> str:
    """Minutes and seconds as a stop-watch has them: `0:09`, `12:40`, `1:02:10`."""
    whole = int(max(0.0, seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def span(seconds: float) -> str:
    """A finished duration: `0.4s`, `41s`, `1m12s`, `2h05m`."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def time_of_day(at: float, has_seconds: bool = True) -> str:
    return time.strftime("%H:%M:%S" if has_seconds else "%H:%M", time.localtime(at))


def stamp(at: float, now: float) -> str:
    """When, in eight cells: the time if it was today, else the day."""
    then, today = time.localtime(at), time.localtime(now)
    is_today = (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M:%S" if is_today else "%b %d  ", then)


def count(number: float) -> str:
    """A count in at most five characters: `843`, `12k`, `3.4M`."""
    if number < 1_000:
        return f"{number:.0f}"
    if number < 999_500:
        return f"{number / 1_000:.1f}k" if number < 9_950 else f"{number / 1_000:.0f}k"
    return f"{number / 1_000_000:.1f}M"


def measured(value: float | None, unit: str) -> str:
    """A metric's value: a ratio in per cent, a latency in ms or s; `–` when there is none."""
    if value is None:
        return "–"
    if unit == "seconds":
        return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.2f} s"
    per_cent = value * 100
    return f"{per_cent:.2f} %" if per_cent < 9.995 else f"{per_cent:.1f} %"


def against(canary: float | None, baseline: float | None) -> str:
    """The canary as a multiple of the baseline: `×1.07`; `–` when that has no meaning."""
    if canary is None or baseline is None:
        return "–"
    if baseline <= 0:
        return "=" if canary <= 0 else "from 0"
    ratio = canary / baseline
    return f"×{ratio:.2f}" if ratio < 9.995 else f"×{ratio:.0f}"


BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: list[float | None], width: int, top: float) -> str:
    """The last `width` values as bars, the tallest standing for `top`; a gap where there is none."""
    shown = values[-width:] if width > 0 else []
    if top <= 0:
        return "".join(" " if value is None else BARS[0] for value in shown)
    return "".join(
        " " if value is None else BARS[min(len(BARS) - 1, int(max(0.0, value) / top * (len(BARS) - 0.01)))]
        for value in shown
    )
