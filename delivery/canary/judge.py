"""The first judge: is the canary worse than the baseline that runs beside it? Samples in, verdicts out.

Each metric becomes a pair of counters per scrape: bad and total requests of both arms. For an error ratio they are the
errors; for latency they are the requests slower than the bound below which the baseline keeps its quantile. Given that
an error happened, the chance that it was the canary's depends on the ratio of the two error rates and on the split of
the traffic only, so drift that both arms share cancels out. Evidence is a mixture of likelihood ratios over eight lifts
of that ratio, each against "no worse": a number that may be looked at after every scrape, since the chance that it ever
exceeds 1/alpha while the canary is no worse is at most alpha (Ville's inequality; conditional counts as in Lindon and
Malek, NeurIPS 2022). Requests that fail in bursts are not independent: the evidence is divided by how much more the
split of the bad ones varies from scrape to scrape than chance makes it (a quasi-likelihood; 1 where it does not).

To fail, a metric needs that evidence, three bad requests, and an effect beyond the tolerance: in its estimate, and with
evidence of at least 3 against "worse by no more than the tolerance".

At 100 % no baseline runs beside the canary any more. What it did while both ran stands in for it, at the upper end of
what its counts allow and with room for what changed since: three times the rate, four times the latency. Harm that is
smaller than that is found beside a baseline, or by an absolute limit.

This judge passes a metric when it has its minimum of samples and found no harm. That is weaker than having excluded
harm, and its sentence says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from pithead.delivery.events import VerdictWord
from pithead.delivery.ports import Counts, Histogram, MetricSpec, Reading, Sample

LIFTS = tuple(1.3 * (16 / 1.3) ** (i / 7) for i in range(8))
MIN_BAD = 3
MIN_BEYOND = 3.0
SUSPICION = 10.0
DRIFT_OF_RATE = 3.0
DRIFT_OF_LATENCY = 4.0


@dataclass(frozen=True, slots=True)
class Judged:
    """One metric's verdict after the samples so far. `canary` and `baseline` are what the screen compares: a ratio of
    bad requests (0 to 1) or a latency in seconds; `evidence` is the e-value against "no worse" (1 is none)."""

    metric: str
    word: VerdictWord
    sentence: str
    canary: float | None = None
    baseline: float | None = None
    canary_samples: float = 0
    baseline_samples: float = 0
    evidence: float = 1.0
    unit: str = "ratio"

    def as_data(self) -> dict[str, Any]:
        """As stored with the sample that it was reached on."""
        return {
            "verdict": self.word,
            "sentence": self.sentence,
            "effect": {"canary": self.canary, "baseline": self.baseline, "unit": self.unit},
            "evidence": self.evidence,
            "samples": {"canary": self.canary_samples, "baseline": self.baseline_samples},
        }


def judge(specs: Sequence[MetricSpec], samples: Sequence[Sample]) -> tuple[Judged, ...]:
    """A verdict per spec from all samples of this attempt so far, oldest first. Samples of other metrics are ignored."""
    return tuple(_judge_metric(spec, [_usable(spec, s) for s in samples if s.metric == spec.name]) for spec in specs)


def overall(specs: Sequence[MetricSpec], judged: Sequence[Judged]) -> VerdictWord:
    """Of a release: one critical fail is enough; a pass needs a pass of every critical metric."""
    known = {j.metric: j.word for j in judged}
    words = [known.get(spec.name, "no_data") for spec in specs if spec.is_critical]
    if "fail" in words:
        return "fail"
    if all(word == "pass" for word in words):
        return "pass"
    return "no_data" if "no_data" in words else "inconclusive"


@dataclass(frozen=True, slots=True)
class _Tally:
    """Bad and total requests of one arm, added up over the scrapes."""

    bad: float = 0.0
    total: float = 0.0

    @property
    def rate(self) -> float:
        return self.bad / self.total if self.total else 0.0


def _usable(spec: MetricSpec, sample: Sample) -> Sample:
    """The sample, without a reading that cannot be what the metric counts: it is as good as none, and never a zero."""
    canary = sample.canary if _is_usable(spec, sample.canary) else None
    baseline = sample.baseline if _is_usable(spec, sample.baseline) else None
    if canary is sample.canary and baseline is sample.baseline:
        return sample
    return replace(sample, canary=canary, baseline=baseline)


def _is_usable(spec: MetricSpec, reading: Reading | None) -> bool:
    match reading:
        case Counts(bad, total) if spec.kind == "ratio":
            return _is_count(bad) and _is_count(total)
        case Histogram(le, count) if spec.kind == "latency":
            is_rising = all(a < b for a, b in pairwise(le)) and all(a <= b for a, b in pairwise(count))
            return 0 < len(le) == len(count) and is_rising and all(map(_is_count, count)) and le[0] >= 0
    return False


def _is_count(value: float) -> bool:
    return 0 <= value < math.inf


def _judge_metric(spec: MetricSpec, samples: Sequence[Sample]) -> Judged:
    unit = "seconds" if spec.kind == "latency" else "ratio"
    steps = _increments(samples)
    if not steps:
        return Judged(spec.name, "no_data", _words_without_data(samples), unit=unit)
    bound = None
    if spec.kind == "latency":
        bound = _baseline_bound(spec, samples)
        if bound is None:
            return Judged(spec.name, "no_data", "the baseline has served nothing to compare with yet.", unit=unit)
    pairs = [(_tally(canary, bound), _tally(baseline, bound)) for canary, baseline in steps]
    beside = [pair for pair in pairs if pair[1].total > 0]
    seen = _Seen(
        canary=_sum([canary for canary, _ in beside]),
        baseline=_sum([baseline for _, baseline in beside]),
        alone=_sum([canary for canary, baseline in pairs if baseline.total <= 0]),
        evidence=_evidence(beside, 1.0),
        beyond=_evidence(beside, 1.0 + spec.tolerance),
        drifted=_evidence_alone(steps, bound),
    )
    shown = (seen.all.rate, seen.baseline.rate)
    if spec.kind == "latency":
        shown = (_quantile(spec, samples, "canary"), _quantile(spec, samples, "baseline"))  # type: ignore[assignment]
    word, sentence = _decide(spec, seen, shown, bound)
    evidence = min(max(seen.evidence, seen.drifted), 1e12)
    return Judged(spec.name, word, sentence, shown[0], shown[1], seen.all.total, seen.baseline.total, evidence, unit)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What both arms did while they ran beside each other, what the canary did `alone` at 100 %, and three e-values:
    against "no worse", against "worse within the tolerance", and, of the time alone, against "worse by a drift"."""

    canary: _Tally
    baseline: _Tally
    alone: _Tally
    evidence: float
    beyond: float
    drifted: float

    @property
    def all(self) -> _Tally:
        return _sum([self.canary, self.alone])


def _decide(spec: MetricSpec, seen: _Seen, shown: tuple[float, float], bound: float | None) -> tuple[VerdictWord, str]:
    canary, baseline = seen.all, seen.baseline
    what = "errors" if bound is None else f"slower than {_seconds(bound)}"
    facts = (
        f"{_percent(canary.rate)} {what} in {canary.total:,.0f} canary requests, "
        f"{_percent(baseline.rate)} in {baseline.total:,.0f} of the baseline"
    )
    if spec.limit is not None and canary.total >= spec.min_samples and shown[0] is not None and shown[0] > spec.limit:
        limit = _percent(spec.limit) if bound is None else _seconds(spec.limit)
        value = _percent(shown[0]) if bound is None else _seconds(shown[0])
        return "fail", f"{value} is over the limit of {limit}, in {canary.total:,.0f} canary requests."
    # Two ways to fail share the risk of a false alarm, half each.
    enough = 2 / spec.alpha
    is_beyond = seen.canary.rate > (1 + spec.tolerance) * baseline.rate and seen.beyond >= MIN_BEYOND
    if seen.evidence >= enough and seen.canary.bad >= MIN_BAD and is_beyond:
        return "fail", f"{facts}: by chance alone in at most one of {min(seen.evidence / 2, 1e9):,.0f} releases."
    if seen.drifted >= enough and seen.alone.bad >= MIN_BAD:
        return "fail", f"{facts} before it had all of the traffic: far worse than what may have drifted since."
    if canary.total < spec.min_samples:
        return "inconclusive", f"{canary.total:,.0f} of at least {spec.min_samples:,} canary requests so far."
    if baseline.total < spec.min_samples:
        return "inconclusive", f"{baseline.total:,.0f} of at least {spec.min_samples:,} baseline requests so far."
    if max(seen.beyond, seen.drifted) >= SUSPICION:
        return "inconclusive", f"it looks worse, and may be so by chance: {facts}."
    return "pass", f"no harm found: {facts}."


def _words_without_data(samples: Sequence[Sample]) -> str:
    if not samples:
        return "no scrape yet."
    last = samples[-1]
    missing = [arm for arm, reading in (("canary", last.canary), ("baseline", last.baseline)) if reading is None]
    if missing:
        return f"no reading of the {' and the '.join(missing)}."
    return (
        "one scrape so far: a difference needs two." if len(samples) == 1 else "no request has reached the canary yet."
    )


def _increments(samples: Sequence[Sample]) -> list[tuple[Reading, Reading]]:
    """What both arms counted between scrapes that have both. A counter that fell was reset: it starts again from 0."""
    steps: list[tuple[Reading, Reading]] = []
    before: Sample | None = None
    for sample in samples:
        if sample.canary is None or sample.baseline is None:
            continue
        if before is not None and before.canary is not None and before.baseline is not None:
            canary, baseline = _less(sample.canary, before.canary), _less(sample.baseline, before.baseline)
            if canary is not None and baseline is not None:
                steps.append((canary, baseline))
        before = sample
    return steps


def _less(after: Reading, before: Reading) -> Reading | None:
    """The increment, None when the two cannot be compared: other bounds."""
    match after, before:
        case Counts(bad, total), Counts(bad_before, total_before):
            if total < total_before or bad < bad_before:
                return Counts(bad, total)
            return Counts(bad - bad_before, total - total_before)
        case Histogram(le, count), Histogram(le_before, count_before):
            if le != le_before:
                return None
            if any(now < then for now, then in zip(count, count_before, strict=True)):
                return Histogram(le, count)
            return Histogram(le, tuple(now - then for now, then in zip(count, count_before, strict=True)))
    return None


def _tally(reading: Reading, bound: float | None) -> _Tally:
    match reading:
        case Counts(bad, total):
            return _Tally(min(bad, total), total)  # scraped between two counters that belong together
        case Histogram(le, count) if count:
            fast = next((c for b, c in zip(le, count, strict=True) if bound is not None and b >= bound), count[-1])
            return _Tally(count[-1] - fast, count[-1])
    return _Tally()


def _sum(tallies: Sequence[_Tally]) -> _Tally:
    return _Tally(sum(t.bad for t in tallies), sum(t.total for t in tallies))


def _evidence(pairs: Sequence[tuple[_Tally, _Tally]], ratio: float) -> float:
    """The mixture's e-value against "the canary's rate is at most `ratio` times the baseline's"; 1 says nothing."""
    logs = [0.0] * len(LIFTS)
    for canary, baseline in pairs:
        bad = canary.bad + baseline.bad
        if bad <= 0:
            continue
        share = canary.total / (canary.total + baseline.total)
        null = share * ratio + 1 - share
        for i, lift in enumerate(LIFTS):
            logs[i] += canary.bad * math.log(lift) - bad * math.log((share * ratio * lift + 1 - share) / null)
    return _mixed(logs, _dispersion(pairs))


def _evidence_alone(steps: Sequence[tuple[Reading, Reading]], bound: float | None) -> float:
    """The same of the canary alone, against what the baseline did earlier, drifted as far as is allowed for."""
    far = None if bound is None else bound * DRIFT_OF_LATENCY
    pairs = [(_tally(canary, far), _tally(baseline, far)) for canary, baseline in steps]
    earlier = _sum([baseline for _, baseline in pairs])
    alone = [canary for canary, baseline in pairs if baseline.total <= 0 < canary.total]
    if earlier.total <= 0 or not alone:
        return 1.0
    rate = min(1.0, _upper_rate(earlier) * (DRIFT_OF_RATE if bound is None else 1.0))
    logs = [sum(canary.bad * math.log(lift) - canary.total * rate * (lift - 1) for canary in alone) for lift in LIFTS]
    return _mixed(logs, 1.0)


def _mixed(logs: Sequence[float], dispersion: float) -> float:
    scaled = [value / dispersion for value in logs]
    top = max(scaled)
    return math.exp(min(700.0, top + math.log(sum(math.exp(x - top) for x in scaled) / len(scaled))))


def _dispersion(pairs: Sequence[tuple[_Tally, _Tally]]) -> float:
    """How many times more the canary's part of the bad requests varies over the scrapes than a binomial does (Pearson's
    statistic over its degrees of freedom), at least 1."""
    expected_of = [
        (canary.bad, canary.bad + baseline.bad, canary.total / (canary.total + baseline.total))
        for canary, baseline in pairs
        if canary.bad + baseline.bad > 0 and canary.total > 0
    ]
    bad, baseline_bad = sum(c for c, _, _ in expected_of), sum(n - c for c, n, _ in expected_of)
    if len(expected_of) < 3 or bad <= 0 or baseline_bad <= 0:
        return 1.0
    odds = bad / baseline_bad / (sum(n * s for _, n, s in expected_of) / sum(n * (1 - s) for _, n, s in expected_of))
    statistic = 0.0
    for count, total, share in expected_of:
        chance = share * odds / (share * odds + 1 - share)
        statistic += (count - total * chance) ** 2 / (total * chance * (1 - chance))
    return max(1.0, statistic / (len(expected_of) - 1))


def _upper_rate(tally: _Tally, z: float = 2.326) -> float:
    """The upper end of a one-sided 99 % interval for a Poisson rate (square-root transform)."""
    return (math.sqrt(tally.bad + 1) + z / 2) ** 2 / tally.total


def _last_cumulative(samples: Sequence[Sample], arm: str) -> Histogram | None:
    """All that the arm served over these samples, as one histogram."""
    le: tuple[float, ...] = ()
    total: list[float] = []
    for canary, baseline in _increments(samples):
        reading = canary if arm == "canary" else baseline
        if isinstance(reading, Histogram):
            if reading.le != le:
                le, total = reading.le, [0.0] * len(reading.le)
            total = [a + b for a, b in zip(total, reading.count, strict=True)]
    return Histogram(le, tuple(total)) if le else None


def _baseline_bound(spec: MetricSpec, samples: Sequence[Sample]) -> float | None:
    """The smallest bucket bound that the baseline keeps for at least its quantile of the requests."""
    histogram = _last_cumulative(samples, "baseline")
    if histogram is None or histogram.count[-1] <= 0:
        return None
    finite = [b for b in histogram.le if math.isfinite(b)]
    for bound, count in zip(histogram.le, histogram.count, strict=True):
        if count >= spec.quantile * histogram.count[-1]:
            return bound if math.isfinite(bound) else (finite[-1] if finite else None)
    return None


def _quantile(spec: MetricSpec, samples: Sequence[Sample], arm: str) -> float | None:
    """The quantile in seconds, linear within its bucket, as Prometheus' histogram_quantile does."""
    histogram = _last_cumulative(samples, arm)
    if histogram is None or histogram.count[-1] <= 0:
        return None
    rank = spec.quantile * histogram.count[-1]
    lower, below = 0.0, 0.0
    for bound, count in zip(histogram.le, histogram.count, strict=True):
        if count >= rank:
            if not math.isfinite(bound) or count == below:
                return lower if not math.isfinite(bound) else bound
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


def _percent(rate: float) -> str:
    return f"{rate * 100:.2f} %" if rate < 0.0995 else f"{rate * 100:.0f} %"


def _seconds(value: float) -> str:
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.2f} s"
