"""The counting behind a comparison, held against scipy and statsmodels, and against cases done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from luthier.errors import UserError
from luthier.evaluate import statistics
from luthier.evaluate.compare import compare_scores

RANDOM = np.random.default_rng(3)
CASES = [
    (base := RANDOM.random(count), base + RANDOM.normal(shift, 0.3, count))
    for count, shift in ((12, 0.0), (20, 0.2), (46, 0.1), (200, 0.02))
]
close = {"rel": 1e-9, "abs": 1e-12}


@pytest.mark.parametrize(("base", "tuned"), CASES)
def test_tests_and_effects_equal_scipy_and_statsmodels(base: np.ndarray, tuned: np.ndarray) -> None:
    entry, differences, count = compare_scores(base.tolist(), tuned.tolist()), tuned - base, len(base)
    assert entry["base"] == pytest.approx(base.mean(), **close)
    assert entry["difference"] == pytest.approx(differences.mean(), **close)
    assert entry["tests"]["t"] == pytest.approx(stats.ttest_rel(tuned, base).pvalue, **close)
    assert entry["tests"]["wilcoxon"] == pytest.approx(stats.wilcoxon(tuned, base).pvalue, **close)
    dz = differences.mean() / differences.std(ddof=1)
    assert entry["cohens_dz"] == pytest.approx(dz, **close)
    assert entry["power"] == pytest.approx(TTestPower().power(dz, count, 0.05), **close)
    smallest = TTestPower().solve_power(nobs=count, alpha=0.05, power=0.8)
    assert entry["minimum_detectable_dz"] == pytest.approx(smallest, **close)
    assert entry["minimum_detectable"] == pytest.approx(smallest * differences.std(ddof=1), **close)
    assert (entry["n"], entry["items"], entry["p_adjusted"]) == (count, count, entry["tests"]["permutation"])


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
    assert statistics.sign_flips(differences) == pytest.approx(exact.pvalue, **close)


def test_drawn_sign_flips_come_near_the_exact_ones_and_are_never_zero() -> None:
    differences = np.random.default_rng(1).normal(0.4, 1.0, 16)
    signs = 1 - 2 * ((np.arange(2**16)[:, None] >> np.arange(16)) & 1)
    exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9)
    assert statistics.sign_flips(differences) == pytest.approx(exact, abs=0.01)
    assert statistics.sign_flips(np.arange(1.0, 101.0)) == 1 / 10_000


@pytest.mark.parametrize(("base", "tuned"), CASES)
def test_the_interval_equals_the_bca_of_scipy(base: np.ndarray, tuned: np.ndarray) -> None:
    differences, seed = tuned - base, 5
    level = statistics.widened_level(len(differences))
    expected = stats.bootstrap(
        (differences,), np.mean, n_resamples=999, confidence_level=level, method="BCa", rng=np.random.default_rng(seed)
    ).confidence_interval
    found = statistics.bootstrap(differences, seed, 999)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), **close)


def test_the_level_widens_for_small_samples_only() -> None:
    assert statistics.widened_level(10_000) == pytest.approx(0.95, abs=1e-3)
    assert 0.95 < statistics.widened_level(46) < statistics.widened_level(12) < 1


def test_holm_on_a_case_by_hand() -> None:
    # Sorted .01 .02 .04: times 3, 2, 1, and never less than the one before.
    assert statistics.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert statistics.holm([0.6, 0.5]) == pytest.approx([1.0, 1.0])
    assert statistics.holm([]) == []


def test_holm_equals_statsmodels() -> None:
    for count in (1, 2, 7, 12):
        p_values = np.random.default_rng(count).random(count).round(1 if count > 7 else 6) / 4
        assert statistics.holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], **close)


def test_groups_become_units_of_equal_weight() -> None:
    pairs = statistics.pair([1, 2, 3, 10], [2, 4, 6, 10], ["a", "a", "a", None])
    assert pairs.differences.tolist() == [2.0, 0.0]
    assert pairs.items == 4
    assert len(statistics.pair([1, 2, 3], [1, 2, 3], [None, None, None]).base) == 3


def test_copies_of_an_item_do_not_make_evidence() -> None:
    random = np.random.default_rng(11)
    base, tuned = random.random(12), random.random(12) + 0.15
    once = compare_scores(base, tuned)
    groups = np.repeat(np.arange(12), 5)
    grouped = compare_scores(np.repeat(base, 5), np.repeat(tuned, 5), groups.tolist())
    naive = compare_scores(np.repeat(base, 5), np.repeat(tuned, 5))
    assert grouped["tests"] == pytest.approx(once["tests"])
    assert (grouped["n"], grouped["items"]) == (12, 60)
    assert naive["tests"]["t"] < 0.2 * once["tests"]["t"]  # what counting copies would have claimed


@pytest.mark.parametrize(
    ("base", "tuned", "groups", "word"),
    [
        ([], [], None, "no scores"),
        ([1.0, 2.0], [1.0], None, "paired"),
        ([1.0, 2.0], [1.0, 2.0], ["a"], "groups has 1"),
        ([1.0, float("nan")], [1.0, 2.0], None, "base[1] is nan"),
        ([1.0, 2.0], [float("inf"), 2.0], None, "tuned[0] is inf"),
        ([[1.0]], [[1.0]], None, "plain lists"),
    ],
)
def test_bad_input_is_told(base: list, tuned: list, groups: list | None, word: str) -> None:
    with pytest.raises(UserError) as raised:
        compare_scores(base, tuned, groups)
    assert word in str(raised.value)
