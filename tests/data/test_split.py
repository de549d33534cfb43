"""Splits: stratified, grouped, exact about what grouping forces, and never a crash."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.allocation import Alike, allocate
from luthier.data.groups import join_groups
from luthier.data.rows import SPLITS, Row
from luthier.data.split import Division, split
from luthier.errors import UserError

SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}


def row(number, topic=None, group=None, **more):
    labels = {} if topic is None else {"topic": topic}
    content = {"text": f"text {number}"}
    return Row(
        id=f"r{number}", form="text", content=content, file="f", line=number + 1, labels=labels, group=group, **more
    )


def topics_of_groups(seed, least=34, most=40, topics=8, size=3):
    draw = random.Random(seed)
    rows = []
    for topic in range(topics):
        for group in range(draw.randint(least, most)):
            rows += [row(len(rows) + place, f"topic {topic}", f"{topic}-{group}") for place in range(size)]
    return rows


def sides_of(division: Division):
    return {row.id: name for name, rows in division.sides.items() for row in rows}


def told(division: Division):
    return " ".join(division.warnings)


@pytest.mark.parametrize("seed", range(4))
def test_eight_topics_of_triples_are_within_two_points_everywhere(seed):
    division = split(topics_of_groups(seed), SHARES, "topic", "group", {}, seed)
    assert division.deviation.overall.worst < 2
    assert all(stratum.worst < 2 for stratum in division.deviation.strata)
    assert division.warnings == []


@pytest.mark.parametrize("groups", range(34, 41))
def test_every_size_of_topic_is_within_two_points(groups):
    division = split(topics_of_groups(0, groups, groups), SHARES, "topic", "group", {}, 1)
    assert max(division.deviation.overall.worst, *(one.worst for one in division.deviation.strata)) < 2


def test_variants_never_straddle_and_rows_keep_their_order():
    rows = topics_of_groups(1)
    random.Random(0).shuffle(rows)
    division = split(rows, SHARES, "topic", "group", {}, 3)
    side = sides_of(division)
    by_group = defaultdict(set)
    for one in rows:
        by_group[one.group].add(side[one.id])
    assert all(len(found) == 1 for found in by_group.values())
    place = {one.id: number for number, one in enumerate(rows)}
    for part in division.sides.values():
        assert [place[one.id] for one in part] == sorted(place[one.id] for one in part)


def test_groups_join_through_field_cluster_and_origin():
    rows = [
        row(0, group="a"),
        row(1, group="a"),
        row(2),
        row(3, made_from="r2"),
        row(4),
        row(5, group=""),
        row(6, group=""),
    ]
    assert join_groups(rows, "group", {"r1": "near", "r2": "near"}) == [0, 0, 0, 0, 4, 5, 6]
    assert join_groups(rows, None, {}) == [0, 1, 2, 2, 4, 5, 6]


def test_same_seed_same_division_and_another_seed_another():
    rows = topics_of_groups(2)
    first, again, other = (sides_of(split(rows, SHARES, "topic", "group", {}, seed)) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_proportions_are_exact_and_name_the_price_of_grouping():
    rows = [row(number, "a", "big" if number < 5 else None) for number in range(10)]
    division = split(rows, {"train": 0.8, "test": 0.2}, "topic", "group", {}, 0)
    for stratum in (division.deviation.overall, *division.deviation.strata):
        portion = stratum.portions["test"]
        assert (portion.rows, portion.share, portion.wanted, portion.deviation) == (2, 0.2, 0.2, 0.0)
        assert stratum.groups == 6
        assert stratum.portions["validation"].rows == 0
    lumps = [row(number, "a", f"g{number // 5}") for number in range(10)]
    forced = split(lumps, {"train": 0.8, "test": 0.2}, None, "group", {}, 0).deviation.overall.portions["test"]
    assert (forced.rows, forced.deviation, forced.without_groups) == (5, pytest.approx(30.0), pytest.approx(0.0))
    assert division.deviation.to_json()["worst_points"] == {"overall": 0.0, "strata": 0.0}


def test_whole_rows_alone_leave_less_than_one_row():
    division = split([row(number) for number in range(11)], SHARES, None, None, {}, 0)
    for portion in division.deviation.overall.portions.values():
        assert abs(portion.without_groups) < 100 / 11
        assert abs(portion.deviation) <= abs(portion.without_groups) + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_no_worse_than_stratified_group_k_fold(seed):
    """scikit-learn can do five equal folds: shares of 80/20 with one fold held out. It gets five tries, we one."""
    from sklearn.model_selection import StratifiedGroupKFold

    draw = random.Random(seed)
    rows = []
    for group in range(120):
        topic = f"t{draw.randrange(4)}"
        rows += [row(len(rows) + place, topic, f"g{group}") for place in range(draw.randint(1, 6))]
    topics = np.array([one.labels["topic"] for one in rows])
    totals = Counter(topics.tolist())

    def deviation(test_topics):
        got = Counter(test_topics)
        return sum((got[topic] / totals[topic] - 0.2) ** 2 for topic in totals)

    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    groups = np.array([one.group for one in rows])
    theirs = [deviation(topics[test].tolist()) for _, test in folds.split(topics, topics, groups)]
    division = split(rows, {"train": 0.8, "test": 0.2}, "topic", "group", {}, 0)
    assert deviation([one.labels["topic"] for one in division.sides["test"]]) <= min(theirs) + 1e-12


def test_allocation_finds_the_best_of_all_for_few_groups():
    sizes = [5, 4, 3, 3, 2, 1, 1]
    kinds = [Alike(((1, size),), sizes.count(size)) for size in sorted(set(sizes), reverse=True)]

    def cost(rows):
        total = 0.0
        for got, share in zip(rows, (0.6, 0.4), strict=True):
            off = abs(got / sum(sizes) - share)
            total += off * off + max(0.0, off - 0.02)
        return total

    best = min(
        cost(
            (
                sum(s for s, t in zip(sizes, to, strict=True) if t == 0),
                sum(s for s, t in zip(sizes, to, strict=True) if t),
            )
        )
        for to in product((0, 1), repeat=len(sizes))
    )
    placed = allocate(kinds, (0.6, 0.4), (0, 1), 0)
    ours = [sum(kind.rows * got[side] for kind, got in zip(kinds, placed, strict=True)) for side in (0, 1)]
    assert cost(ours) == pytest.approx(best)


def test_search_gives_up_within_its_budget_and_still_places_every_group():
    draw = random.Random(0)
    kinds = [Alike(((1 + draw.randrange(300), draw.randint(1, 500)),), 1) for _ in range(3000)]
    placed = allocate(kinds, (0.7, 0.15, 0.15), (0, 2, 1), 0)
    assert all(sum(got) == 1 for got in placed)


# ── outcomes that need explaining ──


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no rows"),
        ([row(0, "a")], "no test evidence"),
        ([row(number, "a", "one") for number in range(9)], "no test evidence"),
    ],
)
def test_what_cannot_be_divided_is_trained_on_and_explained(rows, words):
    division = split(rows, SHARES, "topic" if rows else None, "group", {}, 0)
    assert len(division.sides["train"]) == len(rows)
    assert words in told(division)


def test_two_groups_go_to_train_and_test():
    division = split([row(0, "a"), row(1, "a")], SHARES, None, "group", {}, 0)
    assert [len(division.sides[name]) for name in SPLITS] == [1, 0, 1]
    assert "validation split is empty" in told(division)


def test_one_class_is_explained():
    division = split([row(number, "only") for number in range(40)], SHARES, "topic", None, {}, 0)
    assert "Every row has the same 'topic', 'only'" in told(division)
    assert len(division.sides["test"]) == 6


def test_too_small_strata_are_named_counted_and_divided_together():
    rows = [row(number, "large", None) for number in range(100)]
    rows += [row(100 + number, f"rare {number}", None) for number in range(20)]
    division = split(rows, SHARES, "topic", None, {}, 0)
    assert "20 strata of 'topic' with fewer groups than the 3 splits" in told(division)
    assert "'rare 0' (1 group, 1 row:" in told(division)
    assert "and 15 more" in told(division)
    rare = Counter(name for name, part in division.sides.items() for one in part if "rare" in one.labels["topic"])
    assert rare == {"train": 14, "validation": 3, "test": 3}


def test_a_stratum_that_grouping_distorts_is_named():
    rows = [row(number, "a") for number in range(100)]
    rows += [row(100 + number, "lumpy", f"g{number // 10}") for number in range(40)]
    division = split(rows, SHARES, "topic", "group", {}, 0)
    assert "More than 2 points" in told(division)
    assert "'lumpy' by" in told(division)


def test_an_uneven_whole_is_told():
    rows = [row(number, "a", f"g{number // 10}") for number in range(40)]
    assert "points from what was wanted" in told(split(rows, SHARES, None, "group", {}, 0))


def test_missing_stratify_field_names_the_fields_found():
    with pytest.raises(UserError, match="'subject'") as caught:
        split([row(0, "a"), row(1, "b")], SHARES, "subject", None, {}, 0)
    assert "topic" in caught.value.remedy
    with pytest.raises(UserError, match="'source'"):
        split([row(0)], SHARES, None, "source", {}, 0)


def test_rows_without_the_stratify_field_form_a_stratum():
    rows = [row(number, "a" if number % 2 else None) for number in range(80)]
    division = split(rows, SHARES, "topic", None, {}, 0)
    assert {stratum.name: stratum.rows for stratum in division.deviation.strata} == {"(none)": 40, "a": 40}
    assert "40 rows of 80 without 'topic'" in told(division)


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_share_of_nought_gets_no_row(name):
    shares = {"train": 0.8, "validation": 0.2, "test": 0.2, name: 0.0}
    division = split([row(number) for number in range(50)], shares, None, None, {}, 0)
    assert division.sides[name] == []
    assert len(division.sides["train"]) == 40
    assert division.warnings == []


@pytest.mark.parametrize(
    "shares",
    [{"train": 0.5, "test": 0.4}, {"train": 0, "test": 1}, {"train": 1.5, "test": -0.5}, {"train": float("nan")}],
)
def test_shares_that_do_not_work_are_the_users_to_mend(shares):
    with pytest.raises(UserError, match="shares"):
        split([row(0)], shares, None, None, {}, 0)


# ── given files ──


def test_given_files_stay_and_validation_is_carved_out_of_train():
    rows = [row(number, split="train") for number in range(85)]
    rows += [row(100 + number, split="test") for number in range(40)]
    division = split(rows, SHARES, None, "group", {}, 0)
    assert [one.id for one in division.sides["test"]] == [f"r{100 + number}" for number in range(40)]
    assert [len(division.sides[name]) for name in ("train", "validation")] == [70, 15]
    assert division.deviation.overall.portions["test"].deviation == 0
    assert division.warnings == []


def test_three_given_files_are_left_as_they_are():
    rows = [row(number, split=SPLITS[number % 3]) for number in range(30)]
    division = split(rows, SHARES, None, None, {}, 0)
    assert sides_of(division) == {one.id: one.split for one in rows}


def test_a_group_astride_given_files_is_left_and_told():
    rows = [row(number, group=f"g{number}", split="train") for number in range(40)]
    rows += [row(100, group="g0", split="test"), row(101, split="test")]
    division = split(rows, SHARES, None, "group", {}, 0)
    side = sides_of(division)
    assert (side["r0"], side["r100"]) == ("train", "test")
    assert "1 group with rows in more than one of the files" in told(division)


def test_a_free_row_follows_its_group_into_a_given_file():
    rows = [row(number) for number in range(40)] + [row(100, group="g", split="test"), row(101, group="g")]
    assert sides_of(split(rows, SHARES, None, "group", {}, 0))["r101"] == "test"


def test_nothing_left_to_train_on_is_the_users_to_mend():
    with pytest.raises(UserError, match="train on"):
        split([row(0, split="test"), row(1, split="validation")], SHARES, None, None, {}, 0)


# ── properties ──

NAMES = st.none() | st.sampled_from(["", "a", "b", "c", "d"])
ROWS = st.lists(st.tuples(NAMES, NAMES, NAMES), max_size=60)
PARTS = st.tuples(st.integers(1, 20), st.integers(0, 10), st.integers(0, 10))


@settings(max_examples=150, deadline=None)
@given(ROWS, PARTS, st.booleans(), st.integers(0, 2**32 - 1))
def test_no_group_on_two_sides_and_every_row_once(found, parts, stratified, seed):
    rows = [row(number, topic, group) for number, (topic, group, _) in enumerate(found)]
    clusters = {f"r{number}": name for number, (_, _, name) in enumerate(found) if name}
    shares = dict(zip(SPLITS, (part / sum(parts) for part in parts), strict=True))
    stratify = "topic" if stratified and any(topic for topic, _, _ in found) else None
    division = split(rows, shares, stratify, "group", clusters, seed)
    side = sides_of(division)
    assert sorted(side) == sorted(one.id for one in rows)
    assert sum(len(part) for part in division.sides.values()) == len(rows)
    for relation in ({one.id: one.group for one in rows}, clusters):
        held = defaultdict(set)
        for name, value in relation.items():
            if value:
                held[value].add(side[name])
        assert all(len(found) == 1 for found in held.values())
    assert all(not division.sides[name] for name in SPLITS if shares[name] == 0)
    groups = join_groups(rows, "group", clusters)
    assert division.groups == len(set(groups))
    wanted = sum(share > 0 for share in shares.values())
    assert sum(bool(part) for part in division.sides.values()) == min(wanted, division.groups)
    assert sides_of(split(rows, shares, stratify, "group", clusters, seed)) == side


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([None, *SPLITS]), NAMES), min_size=1, max_size=40), st.integers(0, 99))
def test_given_sides_are_kept_and_nothing_is_lost(found, seed):
    rows = [row(number, None, group, split=side) for number, (side, group) in enumerate(found)]
    try:
        division = split(rows, SHARES, None, "group", {}, seed)
    except UserError:
        assert not any(one.split == "train" for one in rows)
        return
    side = sides_of(division)
    assert sorted(side) == sorted(one.id for one in rows)
    for one in rows:
        if one.split in ("validation", "test"):
            assert side[one.id] == one.split
