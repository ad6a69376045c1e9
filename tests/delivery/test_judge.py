"""The judge: how often it cries wolf, how soon it sees harm, and that nothing odd in the data ever counts as good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pithead.delivery.canary.judge import Judged, judge, overall
from pithead.delivery.ports import Counts, Histogram, MetricSpec, Reading, Sample

ERRORS = MetricSpec("errors", "ratio")
LATENCY = MetricSpec("latency", "latency", quantile=0.99)
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, math.inf)
INF = math.inf
NAN = math.nan


def sample(at: float, canary: Reading | None, baseline: Reading | None, spec: MetricSpec = ERRORS) -> Sample:
    return Sample(at, spec.name, spec.kind, canary, baseline)


def verdict(samples: Sequence[Sample], spec: MetricSpec = ERRORS) -> Judged:
    (judged,) = judge([spec], samples)
    return judged


def counted(
    random: np.random.Generator, looks: int, requests: float, weight: float, canary: float, baseline: float
) -> list[Sample]:
    """Scrapes of two arms with the given true error ratios."""
    c = random.poisson(requests * weight, looks)
    b = random.poisson(requests * (1 - weight), looks)
    bad = np.cumsum(random.binomial(c, canary)), np.cumsum(random.binomial(b, baseline))
    totals = np.cumsum(c), np.cumsum(b)
    zero = [sample(0.0, Counts(0, 0), Counts(0, 0))]
    return zero + [
        sample(
            float(i + 1), Counts(float(bad[0][i]), float(totals[0][i])), Counts(float(bad[1][i]), float(totals[1][i]))
        )
        for i in range(looks)
    ]


def timed(
    random: np.random.Generator, looks: int, requests: int, weight: float, slow: float, factor: float
) -> list[Sample]:
    """Scrapes of two arms with log-normal latencies around 20 ms; a share `slow` of the canary's takes `factor` as long."""
    le = np.array(BOUNDS)
    cumulative = {"canary": np.zeros(len(BOUNDS)), "baseline": np.zeros(len(BOUNDS))}

    def scrape(at: float) -> Sample:
        canary, baseline = (Histogram(BOUNDS, tuple(cumulative[arm])) for arm in ("canary", "baseline"))
        return sample(at, canary, baseline, spec=LATENCY)

    samples = [scrape(0.0)]
    for i in range(looks):
        for arm, share in (("canary", weight), ("baseline", 1 - weight)):
            seconds = random.lognormal(math.log(0.02), 0.6, int(random.poisson(requests * share)))
            if arm == "canary":
                seconds = np.where(random.random(len(seconds)) < slow, seconds * factor, seconds)
            cumulative[arm] = cumulative[arm] + (seconds[:, None] <= le).sum(axis=0)
        samples.append(scrape(i + 1.0))
    return samples


def _is_suspicious(before: Sample, now: Sample) -> bool:
    assert isinstance(before.canary, Counts)
    assert isinstance(now.canary, Counts)
    assert isinstance(now.baseline, Counts)
    is_worse = now.canary.bad * now.baseline.total > (1 + ERRORS.tolerance) * now.baseline.bad * now.canary.total
    return now.canary.bad > before.canary.bad and now.canary.bad >= 3 and is_worse


def first_fail(samples: Sequence[Sample], spec: MetricSpec = ERRORS, every: int = 1) -> int | None:
    """The look at which it first said fail, None if it never did."""
    return next((i for i in range(2, len(samples) + 1, every) if verdict(samples[:i], spec).word == "fail"), None)


# ── false alarms and detection ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("weight", "ratio", "requests"), [(0.05, 0.02, 200), (0.5, 0.001, 200), (0.3, 0.02, 40)])
def test_two_equal_arms_are_told_apart_in_at_most_two_of_a_hundred_releases(
    weight: float, ratio: float, requests: float
) -> None:
    """300 releases of 200 looks each: alpha is 1 % for all looks together, not for each."""
    random = np.random.default_rng(20)
    alarms = 0
    for _ in range(300):
        samples = counted(random, 200, requests, weight, ratio, ratio)
        # Evidence rises only where the canary had an error, and a fail needs a rate beyond the tolerance: the other
        # looks find no alarm that these do not.
        alarms += any(
            verdict(samples[: i + 1]).word == "fail"
            for i in range(1, len(samples))
            if _is_suspicious(samples[i - 1], samples[i])
        )
    assert alarms <= 6


def test_five_per_cent_errors_against_a_half_are_seen_within_some_hundred_canary_requests() -> None:
    random = np.random.default_rng(7)
    looks = []
    for _ in range(60):
        samples = counted(random, 60, 400, 0.1, 0.05, 0.005)  # 40 canary requests, 2 errors, a look
        found = first_fail(samples)
        assert found is not None
        looks.append(found - 1)
    assert np.median(looks) <= 6
    assert np.quantile(looks, 0.95) <= 12


def test_a_canary_that_fails_every_request_is_seen_at_the_first_look() -> None:
    assert verdict([sample(0, Counts(0, 0), Counts(0, 0)), sample(5, Counts(10, 10), Counts(0, 190))]).word == "fail"


def test_errors_against_a_baseline_without_any_are_seen() -> None:
    random = np.random.default_rng(8)
    found = [first_fail(counted(random, 60, 400, 0.1, 0.03, 0.0)) for _ in range(20)]
    assert all(look is not None for look in found)
    assert np.median([look for look in found if look]) <= 10


def test_two_errors_are_too_few_to_call_it_a_failure() -> None:
    samples = [sample(0, Counts(0, 0), Counts(0, 0)), sample(5, Counts(2, 60), Counts(0, 100_000))]
    assert verdict(samples).word == "inconclusive"
    assert "by chance" in verdict(samples).sentence


def test_a_rise_that_both_arms_share_is_nobodys_fault() -> None:
    """The database is down for everyone: 30 % errors in both."""
    random = np.random.default_rng(9)
    samples = counted(random, 30, 400, 0.2, 0.001, 0.001)
    last = samples[-1]
    worse = counted(random, 60, 400, 0.2, 0.3, 0.3)
    both = [
        *samples,
        *(
            sample(
                30 + s.at,
                Counts(last.canary.bad + s.canary.bad, last.canary.total + s.canary.total),  # type: ignore[union-attr]
                Counts(last.baseline.bad + s.baseline.bad, last.baseline.total + s.baseline.total),  # type: ignore[union-attr]
            )
            for s in worse[1:]
        ),
    ]
    assert first_fail(both) is None
    assert verdict(both).word == "pass"


def test_a_better_canary_passes() -> None:
    samples = counted(np.random.default_rng(1), 30, 400, 0.2, 0.001, 0.05)
    assert first_fail(samples) is None
    assert verdict(samples).word == "pass"


def test_a_little_worse_within_the_tolerance_is_accepted() -> None:
    spec = replace(ERRORS, tolerance=0.5)
    samples = [sample(0, Counts(0, 0), Counts(0, 0)), sample(5, Counts(13_000, 1e6), Counts(10_000, 1e6))]
    assert verdict(samples, spec).word == "pass"
    assert verdict(samples, replace(spec, tolerance=0.1)).word == "fail"


def test_a_shift_of_latency_is_found_and_equal_latency_is_not() -> None:
    random = np.random.default_rng(3)
    equal = sum(first_fail(timed(random, 60, 300, 0.2, 0.0, 1.0), LATENCY, every=6) is not None for _ in range(40))
    assert equal <= 1
    for _ in range(5):
        assert first_fail(timed(random, 40, 300, 0.2, 0.2, 8.0), LATENCY) is not None
        assert first_fail(timed(random, 40, 300, 0.2, 1.0, 3.0), LATENCY) is not None


def test_latency_is_shown_in_seconds_and_said_in_words() -> None:
    judged = verdict(timed(np.random.default_rng(4), 30, 300, 0.2, 1.0, 4.0), LATENCY)
    assert judged.word == "fail"
    assert judged.unit == "seconds"
    assert judged.baseline is not None
    assert judged.canary is not None
    assert 0.05 < judged.baseline < 0.12 < judged.canary
    assert "slower than" in judged.sentence


# ── at 100 %, where no baseline runs beside ──────────────────────────────────────────────────────────────────────


def baked(canary: float, seed: int = 5, looks: int = 60) -> list[Sample]:
    """A clean canary at 20 %, then 100 % with the given error ratio; the baseline keeps its counters and gets nothing."""
    random = np.random.default_rng(seed)
    samples = counted(random, 20, 400, 0.2, 0.005, 0.005)
    last = samples[-1]
    bad, total = last.canary.bad, last.canary.total  # type: ignore[union-attr]
    for i in range(looks):
        served = random.poisson(400)
        bad, total = bad + random.binomial(served, canary), total + served
        samples.append(sample(21.0 + i, Counts(float(bad), float(total)), last.baseline))
    return samples


def test_harm_that_shows_at_full_traffic_only_is_found_without_a_baseline_beside() -> None:
    assert all(first_fail(baked(0.05, seed)) is not None for seed in range(10))


def test_a_good_bake_is_left_in_peace() -> None:
    assert sum(first_fail(baked(0.005, seed), every=3) is not None for seed in range(60)) <= 1


def test_a_bake_passes_on_what_was_compared_before() -> None:
    assert verdict(baked(0.005)).word == "pass"


# ── data that is not there, or not right ─────────────────────────────────────────────────────────────────────────


def test_nothing_at_all_is_no_data() -> None:
    assert verdict([]).word == "no_data"
    assert verdict([sample(0, Counts(0, 0), Counts(0, 0))]).word == "no_data"


def test_no_requests_are_not_a_pass() -> None:
    samples = [sample(float(i), Counts(0, 0), Counts(0, 100.0 * i)) for i in range(10)]
    judged = verdict(samples)
    assert judged.word in ("no_data", "inconclusive")
    assert overall([ERRORS], [judged]) != "pass"


def test_too_few_requests_are_inconclusive_and_say_how_many_are_missing() -> None:
    judged = verdict([sample(0, Counts(0, 0), Counts(0, 0)), sample(5, Counts(0, 12), Counts(0, 500))])
    assert judged.word == "inconclusive"
    assert "12 of at least 50" in judged.sentence
    judged = verdict([sample(0, Counts(0, 0), Counts(0, 0)), sample(5, Counts(0, 500), Counts(0, 12))])
    assert judged.word == "inconclusive"
    assert "baseline" in judged.sentence


@pytest.mark.parametrize("canary", [None, Counts(0, 0)])
@pytest.mark.parametrize("baseline", [None, Counts(0, 0)])
def test_an_arm_without_a_reading_is_neither_good_nor_bad(canary: Reading | None, baseline: Reading | None) -> None:
    for arms in ((canary, Counts(0, 1000)), (Counts(900, 1000), baseline)):
        samples = [sample(0, Counts(0, 0), Counts(0, 0)), sample(5, *arms), sample(10, *arms)]
        assert verdict(samples).word not in ("pass",)


STRANGE: list[Reading | None] = [
    None,
    Counts(NAN, NAN),
    Counts(0, NAN),
    Counts(NAN, 1000),
    Counts(INF, INF),
    Counts(0, INF),
    Counts(-1, -1000),
    Histogram((), ()),
    Histogram(BOUNDS, tuple(1000.0 for _ in BOUNDS)),
    Histogram(BOUNDS, (1.0,)),
]


@pytest.mark.parametrize("strange", STRANGE, ids=repr)
@pytest.mark.parametrize("arm", ["canary", "baseline", "both"])
def test_a_strange_reading_alone_never_passes_nor_fails(strange: Reading | None, arm: str) -> None:
    good = Counts(0, 1000)
    canary = strange if arm != "baseline" else good
    baseline = strange if arm != "canary" else good
    for before in (Counts(0, 0), strange):
        first = sample(0, before if arm != "baseline" else Counts(0, 0), before if arm != "canary" else Counts(0, 0))
        judged = verdict([first, sample(5, canary, baseline)])
        assert judged.word in ("no_data", "inconclusive"), judged


@pytest.mark.parametrize("strange", STRANGE, ids=repr)
def test_a_strange_reading_between_good_ones_changes_no_verdict(strange: Reading | None) -> None:
    random = np.random.default_rng(6)
    for ratio, word in ((0.005, "pass"), (0.2, "fail")):
        samples = counted(random, 20, 400, 0.2, ratio, 0.005)
        middle = samples[10]
        for odd in (
            sample(10.5, strange, middle.baseline),
            sample(10.5, middle.canary, strange),
            sample(10.5, strange, strange),
        ):
            judged = verdict([*samples[:11], odd, *samples[11:]])
            assert judged.word == word, (strange, judged)
            assert math.isfinite(judged.evidence)


def test_a_counter_that_was_reset_goes_on_from_zero() -> None:
    random = np.random.default_rng(2)
    before = counted(random, 20, 400, 0.2, 0.004, 0.005)
    after = [replace(s, at=s.at + 100) for s in counted(random, 20, 400, 0.2, 0.004, 0.005)]
    judged = verdict([*before, *after])
    assert judged.word == "pass"
    seen = before[-1].canary.total + after[-1].canary.total  # type: ignore[union-attr]
    assert judged.canary_samples == seen


def test_histograms_whose_bounds_changed_are_not_compared_across_the_change() -> None:
    other = (0.1, 1.0, INF)
    samples = [
        sample(0, Histogram(BOUNDS, (0.0,) * 9), Histogram(BOUNDS, (0.0,) * 9), LATENCY),
        sample(5, Histogram(other, (0.0, 0.0, 1e6)), Histogram(other, (1e6, 1e6, 1e6)), LATENCY),
    ]
    assert verdict(samples, LATENCY).word == "no_data"
    more = [*samples, sample(10, Histogram(other, (9.0, 9.0, 1e6 + 9)), Histogram(other, (1e6 + 9,) * 3), LATENCY)]
    assert verdict(more, LATENCY).word == "inconclusive"


def test_readings_of_the_wrong_kind_are_no_data() -> None:
    histograms = [
        sample(0, Histogram(BOUNDS, (0.0,) * 9), Histogram(BOUNDS, (0.0,) * 9)),
        sample(5, Histogram(BOUNDS, (1000.0,) * 9), Histogram(BOUNDS, (1000.0,) * 9)),
    ]
    assert verdict(histograms).word == "no_data"
    counts = [sample(0, Counts(0, 0), Counts(0, 0), LATENCY), sample(5, Counts(0, 1000), Counts(0, 1000), LATENCY)]
    assert verdict(counts, LATENCY).word == "no_data"


def test_more_errors_than_requests_are_as_many() -> None:
    """Two counters that belong together may be read a moment apart."""
    judged = verdict([sample(0, Counts(0, 0), Counts(0, 0)), sample(5, Counts(41, 40), Counts(0, 400))])
    assert judged.word == "fail"
    assert judged.canary == 1.0


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers(0, 10_000).map(float)
readings = st.one_of(
    st.none(),
    st.builds(Counts, numbers, numbers),
    st.builds(
        lambda le, count: Histogram(tuple(le), tuple(count)),
        st.sampled_from([BOUNDS[:3], BOUNDS[-3:], ()]) | st.lists(numbers, max_size=3),
        st.lists(numbers, max_size=3),
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(readings, readings), max_size=8), st.sampled_from([ERRORS, LATENCY]))
def test_whatever_it_is_given_it_answers_with_numbers(arms: list[tuple[Reading, Reading]], spec: MetricSpec) -> None:
    judged = verdict([sample(float(i), c, b, spec) for i, (c, b) in enumerate(arms)], spec)
    assert judged.sentence
    assert math.isfinite(judged.evidence)
    for value in (judged.canary, judged.baseline):
        assert value is None or math.isfinite(value)


# ── limits, and many metrics ─────────────────────────────────────────────────────────────────────────────────────


def test_a_limit_fails_whatever_the_baseline_does() -> None:
    spec = replace(ERRORS, limit=0.1)
    samples = [sample(0, Counts(0, 0), Counts(0, 0)), sample(5, Counts(200, 1000), Counts(200, 1000))]
    assert verdict(samples).word == "pass"
    assert verdict(samples, spec).word == "fail"
    assert "over the limit of 10 %" in verdict(samples, spec).sentence


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("pass", "pass"), "pass"),
        (("pass", "fail"), "fail"),
        (("pass", "inconclusive"), "inconclusive"),
        (("inconclusive", "no_data"), "no_data"),
        (("fail", "no_data"), "fail"),
    ],
)
def test_a_release_passes_when_every_critical_metric_does(words: tuple[str, str], expected: str) -> None:
    specs = [replace(ERRORS, name="a"), replace(ERRORS, name="b")]
    judged = [Judged(name, word, "") for name, word in zip("ab", words, strict=True)]  # type: ignore[arg-type]
    assert overall(specs, judged) == expected
    assert overall([replace(s, is_critical=False) for s in specs], judged) == "pass"


def test_a_critical_metric_that_nobody_judged_is_not_a_pass() -> None:
    specs = [replace(ERRORS, name="a"), replace(ERRORS, name="b")]
    assert overall(specs, [Judged("a", "pass", "")]) == "no_data"
    assert overall(specs, []) == "no_data"
