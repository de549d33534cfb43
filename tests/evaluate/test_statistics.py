"""The counting behind a comparison, held against scipy, statsmodels and published examples, and cases done by hand."""

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
    assert (entry["n"], entry["items"]) == (count, count)
    decisive = max(entry["tests"][name] for name in ("permutation", "bootstrap", "t"))
    assert (entry["decided_by"], entry["p"], entry["p_adjusted"]) == ("permutation", decisive, decisive)
    u = stats.mannwhitneyu(tuned, base).statistic
    assert entry["cliffs_delta"] == pytest.approx(2 * u / count**2 - 1, **close)


def test_the_interval_of_dz_equals_published_ones_and_the_noncentral_t() -> None:
    # Kelley's MBESS, conf.limits.nct(ncp=2.83, df=126): 0.8337502 and 4.8153594.
    low, high = statistics.dz_interval(2.83 / 127**0.5, 127)
    assert (low * 127**0.5, high * 127**0.5) == pytest.approx((0.8337502, 4.8153594), abs=1e-6)
    for dz, count in ((0.0, 5), (0.4, 20), (-1.3, 46), (0.02, 10_000), (6.0, 12)):
        low, high = statistics.dz_interval(dz, count)
        for bound, level in ((low, 0.975), (high, 0.025)):
            assert stats.nct.cdf(dz * count**0.5, count - 1, bound * count**0.5) == pytest.approx(level, abs=1e-9)
        assert statistics.dz_interval(-dz, count) == pytest.approx((-high, -low), abs=1e-9)
    for dz, count in ((1e3, 2), (1e6, 50), (80.0, 3)):  # what scipy's noncentral t cannot do
        low, high = statistics.dz_interval(dz, count)
        assert np.isfinite([low, high]).all()
        assert low < dz < high


@pytest.mark.parametrize(
    "differences", [[1, 1, -2, 3, 0, 4], [0.5, -0.5, 0.5, 2, 2, -1, 0, 0], [1, 2, 2], [-1, 0], [3, -1, 2, 5]]
)
def test_wilcoxon_with_ties_and_zeros_equals_scipy(differences: list[float]) -> None:
    expected = stats.wilcoxon(differences).pvalue
    assert statistics.wilcoxon(np.array(differences, dtype=float)) == pytest.approx(expected, **close)
    many = np.array(differences * 6, dtype=float)
    assert statistics.wilcoxon(many) == pytest.approx(stats.wilcoxon(many).pvalue, **close)


def test_cliffs_delta_by_hand() -> None:
    # 2 > 1; 2 < 3; 4 > 1; 4 > 3: three wins and a loss of four.
    assert statistics.cliffs_delta(np.array([1.0, 3.0]), np.array([2.0, 4.0])) == pytest.approx(0.5)
    assert statistics.cliffs_delta(np.ones(4), np.ones(4)) == 0.0
    assert statistics.cliffs_delta(np.zeros(4), np.ones(4)) == 1.0


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
    entry = compare_scores([1, 2, 3, 10], [2, 4, 6, 10], ["a", "a", "a", None])
    assert (entry["difference"], entry["difference_items"]) == (1.0, 1.5)
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
