"""Resampling many columns at once, held against scipy, which does one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from luthier.evaluate import resampling

close = {"rel": 1e-9, "abs": 1e-12}
LEVEL = {count: 1 - 2 * stats.norm.sf(stats.t.isf(0.025, count - 1)) for count in (12, 20, 46, 200)}


def flips(differences: np.ndarray) -> float:
    sums = resampling.flipped_sums(differences[:, None])
    return float(resampling.share_as_extreme(sums, np.array([differences.sum()]), len(differences))[0])


def sampled(columns: np.ndarray, seed: int = 0, resamples: int = 999) -> resampling.Sampled:
    resampled = resampling.resampled_sums(columns, seed, resamples) / len(columns)
    return resampling.sampled(columns, columns.mean(axis=0), resampled)


@pytest.mark.parametrize("count", [2, 5, 9, 12])
def test_sign_flips_equal_the_exact_test_of_scipy(count: int) -> None:
    differences = np.random.default_rng(count).normal(0.3, 1.0, count)
    exact = stats.permutation_test(
        (differences, np.zeros(count)),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    assert flips(differences) == pytest.approx(exact.pvalue, **close)


def test_drawn_sign_flips_come_near_the_exact_ones_and_are_never_zero() -> None:
    differences = np.random.default_rng(1).normal(0.4, 1.0, 16)
    signs = 1 - 2 * ((np.arange(2**16)[:, None] >> np.arange(16)) & 1)
    exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9)
    assert flips(differences) == pytest.approx(exact, abs=0.01)
    assert flips(np.arange(1.0, 101.0)) == 1 / 10_000
    assert flips(np.zeros(30)) == 1.0


def test_equal_sums_count_as_extreme_although_their_last_bits_differ() -> None:
    # Of the eight patterns of three equal tenths, two are as far from zero as the observed one.
    assert flips(np.array([0.1, 0.1, 0.1])) == 2 / 8
    # 0.1 + 0.2 and 0.3 are two numbers: patterns that leave |0.6| are two, |0| is observed here.
    assert flips(np.array([0.1, 0.2, -0.3])) == 1.0


@pytest.mark.parametrize("count", [12, 20, 46, 200])
def test_bca_equals_scipys_at_the_quantiles_of_t(count: int) -> None:
    random = np.random.default_rng(count)
    columns = np.column_stack([random.normal(0.1, 1, count), random.exponential(1, count), random.random(count)])
    sample = sampled(columns, seed=5)
    low, high = resampling.bca(sample)
    for place in range(3):
        expected = stats.bootstrap(
            (columns[:, place],),
            np.mean,
            n_resamples=999,
            confidence_level=LEVEL[count],
            method="BCa",
            rng=np.random.default_rng(5),
        ).confidence_interval
        found = (low[place] * sample.scale[place], high[place] * sample.scale[place])
        assert found == pytest.approx((expected.low, expected.high), **close)


def test_an_interval_is_the_wider_of_bca_and_students_t_on_either_side() -> None:
    values = np.random.default_rng(3).exponential(1, (25, 1))
    sample = sampled(values)
    low, high = resampling.intervals(sample)
    student = stats.ttest_1samp(values[:, 0], 0).confidence_interval()
    bca = [float(bound[0] * sample.scale[0]) for bound in resampling.bca(sample)]
    assert low[0] == pytest.approx(min(student.low, bca[0]), **close)
    assert high[0] == pytest.approx(max(student.high, bca[1]), **close)
    assert high[0] == bca[1] != student.high  # skewed: the long tail is seen by BCa alone


@pytest.mark.parametrize("seed", range(8))
def test_the_p_of_the_bootstrap_is_where_its_interval_reaches_zero(seed: int) -> None:
    values = np.random.default_rng(seed).gamma(2, 1, (30, 1)) - 1.5
    sample = sampled(values, resamples=9_999)
    p = float(resampling.bootstrap_p(sample)[0])
    edge = stats.norm.sf(stats.t.isf(p / 2, 29))
    reaching = stats.bootstrap(
        (values[:, 0],),
        np.mean,
        n_resamples=9_999,
        confidence_level=1 - 2 * edge,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    nearest = min(abs(reaching.low), abs(reaching.high))
    assert nearest == pytest.approx(0, abs=0.01)
    assert float(resampling.t_p(sample)[0]) == pytest.approx(stats.ttest_1samp(values[:, 0], 0).pvalue, **close)


def test_what_has_no_spread_or_never_reaches_zero() -> None:
    columns = np.column_stack([np.zeros(12), np.ones(12), np.arange(1.0, 13.0), np.full(12, 1e-200)])
    sample = sampled(columns)
    low, high = resampling.intervals(sample)
    assert (low[0], high[0], low[1], high[1]) == (0, 0, 1, 1)
    assert (low[3], high[3]) == pytest.approx((1e-200, 1e-200), rel=1e-9)
    assert resampling.t_p(sample).tolist()[:2] == [1.0, 0.0]
    assert resampling.bootstrap_p(sample).tolist() == [1.0, 1e-3, 1e-3, 1e-3]


def test_columns_do_not_know_of_each_other_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = np.random.default_rng(0).normal(0, 1, (40, 5))
    whole = resampling.flipped_sums(columns), resampling.resampled_sums(columns)
    alone = resampling.flipped_sums(columns[:, 2:3]), resampling.resampled_sums(columns[:, 2:3])
    monkeypatch.setattr(resampling, "CELLS", 40 * 7)
    blocks = resampling.flipped_sums(columns), resampling.resampled_sums(columns)
    for one, other, cut in zip(whole, alone, blocks, strict=True):
        assert other[:, 0] == pytest.approx(one[:, 2], **close)
        assert cut == pytest.approx(one, **close)
