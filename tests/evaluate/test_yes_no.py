"""Right or wrong: McNemar, its interval and its power, held against statsmodels, published tables and counting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from luthier.evaluate import resampling, yes_no
from luthier.evaluate.compare import compare_scores
from luthier.evaluate.yes_no import Disagreements

# Fagerland, Lydersen and Laake (2014), airway hyper-responsiveness: 1 and 12 agree, 1 against 7 disagree.
AIRWAY = Disagreements(1, 7, 21)
# Armitage and Berry (1994, p. 127), two media for tubercle bacilli: 12 against 2 of 50 disagree; exact p 0.0129.
MEDIA = Disagreements(12, 2, 50)


def scores(table: Disagreements) -> tuple[list[int], list[int]]:
    rest = table.items - table.won - table.lost
    return [0] * table.won + [1] * table.lost + [1] * rest, [1] * table.won + [0] * table.lost + [1] * rest


@pytest.mark.parametrize("table", [AIRWAY, MEDIA, Disagreements(0, 0, 12), Disagreements(300, 250, 2_000)])
def test_mcnemar_decides_and_equals_statsmodels_and_exact_sign_flips(table: Disagreements) -> None:
    base, tuned = scores(table)
    entry = compare_scores(base, tuned)
    cells = [[table.items - table.won - table.lost, table.won], [table.lost, 0]]
    expected = mcnemar(cells, exact=True).pvalue
    assert (entry["decided_by"], entry["p"]) == ("mcnemar", pytest.approx(min(expected, 1.0), rel=1e-9))
    assert entry["tests"]["permutation"] == pytest.approx(entry["p"], abs=0.02)
    assert entry["difference"] == pytest.approx((table.won - table.lost) / table.items)


def test_published_examples() -> None:
    assert yes_no.mcnemar(MEDIA) == pytest.approx(0.0129, abs=5e-5)
    assert yes_no.score_interval(AIRWAY) == pytest.approx((-0.5172, -0.0260), abs=1e-4)


@pytest.mark.parametrize("table", [AIRWAY, MEDIA, Disagreements(3, 0, 10), Disagreements(40, 31, 500)])
def test_the_interval_is_where_tangos_score_is_196(table: Disagreements) -> None:
    n, won, lost = table.items, table.won, table.lost
    low, high = yes_no.score_interval(table)
    for delta, expected in ((low, 1.96), (high, -1.96)):
        # The likelihood of (won, lost, rest) at p_won = p_lost + delta, maximised over p_lost by a fine grid.
        grid = np.linspace(max(0, -delta) + 1e-9, (1 - delta) / 2 - 1e-9, 400_001)
        likelihood = won * np.log(grid + delta) + lost * np.log(grid) + (n - won - lost) * np.log(1 - 2 * grid - delta)
        p_lost = grid[np.argmax(np.nan_to_num(likelihood, nan=-np.inf))]
        score = (won - lost - n * delta) / np.sqrt(n * (2 * p_lost + delta - delta**2))
        assert score == pytest.approx(expected, abs=2e-3)
    mirrored = yes_no.score_interval(Disagreements(lost, won, n))
    assert mirrored == pytest.approx((-high, -low), abs=1e-12)


def test_intervals_at_the_edges() -> None:
    low, high = yes_no.score_interval(Disagreements(0, 0, 20))
    assert (low, high) == pytest.approx((-high, high))
    assert 0 < high < 0.2
    low, high = yes_no.score_interval(Disagreements(20, 0, 20))
    assert (low, high) == (
        pytest.approx((20 - 1.96**2) / (20 + 1.96**2), abs=1e-4),
        1.0,
    )  # (n − z²) / (n + z²), solved by hand


@pytest.mark.parametrize(("won", "lost", "items"), [(0.3, 0.1, 20), (0.2, 0.1, 46), (0.5, 0.0, 8), (0.1, 0.1, 30)])
def test_power_equals_the_sum_over_all_tables(won: float, lost: float, items: int) -> None:
    chances = 0.0
    for one in range(items + 1):
        for other in range(items + 1 - one):
            if one + other and stats.binomtest(one, one + other).pvalue < resampling.ALPHA:
                counts = [one, other, items - one - other]
                chances += stats.multinomial.pmf(counts, items, [won, lost, 1 - won - lost])
    assert yes_no.power(won, lost, items) == pytest.approx(chances, rel=1e-9)
    assert yes_no.power(0.0, 0.0, items) == 0.0


def test_the_smallest_difference_shown_has_a_power_of_80_percent() -> None:
    table = Disagreements(30, 20, 200)
    smallest = yes_no.detectable(table)
    assert smallest is not None
    assert yes_no.power((0.25 + smallest) / 2, (0.25 - smallest) / 2, 200) == pytest.approx(0.8, abs=1e-6)
    assert yes_no.detectable(Disagreements(3, 1, 100)) is None


def test_few_disagreements_say_so() -> None:
    entry = compare_scores([1] * 40, [1] * 38 + [0] * 2)
    assert (entry["verdict"], entry["minimum_detectable"]) == ("no evidence", None)
    assert "so few of 40 items differ" in entry["sentence"]
    assert "only the 2 on which" in entry["why"]
