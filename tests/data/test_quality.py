"""The filter of variations: every reason can fire, and what is good passes; questions and titles alike."""

from __future__ import annotations

from collections import Counter

import pytest

from luthier.data.augment import Augmented, rules
from luthier.data.augment.quality import (
    REASONS,
    Limits,
    Quality,
    diversity,
    kept_similarity,
    language_of,
    lexical_similarity,
    literal_similarity,
    same_language,
)
from luthier.data.augment.titles.make import augment as augment_titles
from luthier.data.rows import Row

FILTER = Quality(Limits((0.3, 0.97), 4, 60), fits=lambda source, text, category: category != "wrong")


@pytest.mark.parametrize(
    ("source", "text", "category", "reason"),
    [
        ("Data Engineer", "", "", "empty"),
        ("Data Engineer", "🚀 !!", "", "empty"),
        ("Data Engineer", "RN", "", "length"),
        ("Data Engineer", "Data Engineer " * 9, "", "length"),
        ("Data Engineer", "Инженер данных", "", "language"),
        ("Data Engineer", "データエンジニア", "", "language"),
        ("Data Engineer", "Data Engineer für die und mit der Bank", "", "language"),
        ("Data Engineer", "DATA  ENGINEER!", "", "too-close"),
        ("Big Data Platform Engineer", "Big Data Platform Engineerr", "", "too-close"),
        ("Data Engineer", "Pub Cook", "", "too-far"),
        ("Data Engineer", "Data Engineer, London", "wrong", "category"),
        ("Data Engineer", "Data Engineer, London", "", None),
        ("Data Engineer", "Engineer, Data", "", None),
        ("Инженер данных", "Старший инженер данных", "", None),
        ("What is overfitting?", "Can you explain what overfitting is?", "", None),
    ],
)
def test_every_reason_fires_and_what_is_good_passes(source, text, category, reason):
    assert FILTER.fault(source, text, category) == reason


def test_growth_is_bounded_by_the_source():
    short = Quality(Limits((0.0, 1.0), 1, 1000, growth=(2.0, 4)))
    assert short.fault("abcd", "abcd efg hij", "") is None
    assert short.fault("abcd", "abcd efg hijk", "") == "length"


def test_a_similarity_that_knows_the_meaning_can_be_passed():
    deaf = Quality(Limits((0.5, 0.97), 1))
    assert deaf.fault("Attorney", "Lawyer", "") == "too-far"
    knowing = Quality(Limits((0.5, 0.97), 1), meaning=lambda one, other: 0.9)
    assert knowing.fault("Attorney", "Lawyer", "") is None
    assert knowing.fault("Attorney", "attorney.", "") == "too-close"  # copies are judged by their letters all the same


def test_similarities_against_hand_counts():
    # indel similarity: 2 × longest common subsequence / letters of both; "ab"/"abcd": 2 × 2 / 6
    assert literal_similarity("ab", "abcd") == pytest.approx(2 / 3)
    assert literal_similarity("Engineer, Data", "Data Engineer") < 0.8
    assert lexical_similarity("Engineer, Data", "Data Engineer") == 1
    assert kept_similarity("Cook", "Cook - Food Hygiene and Knife Skills") == 1
    assert literal_similarity("ab", "xy") == kept_similarity("ab", "xy") == 0


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the role of dropout and how does it help?", "en"),
        ("Welche Rolle spielen die Daten für das Modell und wie sind sie verteilt?", "de"),
        ("Quel est le rôle des données dans les modèles que vous utilisez pour cela ?", "fr"),
        ("¿Cuál es el papel de los datos para la empresa y cómo se usan en el modelo?", "es"),
        ("Data Engineer", None),
        ("Chef de Partie", None),
        ("", None),
    ],
)
def test_a_language_is_claimed_only_where_it_is_sure(text, language):
    assert language_of(text) == language


def test_words_that_the_source_has_are_no_change_of_language():
    assert same_language("Chef de Partie de la Mer", "Senior Chef de Partie de la Mer")
    assert same_language("Café Manager", "Café Manager, Zürich")
    assert same_language("数据工程师", "高级数据工程师")
    assert not same_language("数据工程师", "Data Engineer")
    assert same_language("123", "Data Engineer")


def test_diversity_against_hand_counts():
    told = diversity({"a": [("x y", "one two"), ("x y", "one three")], "b": [], "c": [("x", "x")]})
    assert set(told) == {"a", "c"}
    assert told["a"]["variations"] == 2
    assert told["a"]["distinct_1"] == 0.75  # one, two, three of four words
    assert told["a"]["distinct_2"] == 1.0
    assert told["a"]["similarity_to_each_other"] == pytest.approx(lexical_similarity("one two", "one three"), abs=1e-4)
    assert told["c"] == {
        "variations": 1,
        "distinct_1": 1.0,
        "distinct_2": 0.0,
        "similarity_to_source": 1.0,
        "similarity_to_each_other": 0.0,
    }


# ── in augmentation ──


def chat(name, asked, group=None):
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"The answer to {name}."}]
    return Row(id=name, form="chat", content={"messages": messages}, file="f", line=1, group=group)


def title(name, text, family):
    return Row(id=name, form="title", content={"title": text, "label": family}, file="f", line=1, group=family)


def counted(made: Augmented) -> Counter[str]:
    assert Counter(refusal.reason for refusal in made.refusals) == made.refused
    return Counter(made.refused)


def test_questions_pass_the_same_filter():
    train = [chat("a", "What is overfitting, and how would you detect that it is there in a model?")]
    everything = rules.augment(train, 50, 0)
    narrow = rules.augment(train, 50, 0, similarity=(0.3, 0.88))
    assert counted(narrow)["too-close"] > 0
    assert 0 < len(narrow.rows) < len(everything.rows)
    assert set(everything.diversity) <= {"form", "words", "framing", "form and framing"}
    assert set(everything.categories.values()) == set(everything.diversity)


def test_every_reason_of_the_augmentation_of_titles_can_fire():
    train = [
        title("a", "Truck Driver", "1"),
        title("b", "Sales Assistant", "2"),
        title("c", "Front End Developer", "3"),
        title("d", "Shop Assistant", "4"),
    ]
    found = counted(augment_titles(train, 300, 0))
    found += counted(augment_titles([title("x", "Truck Driver", "1"), title("y", "Lorry Driver", "1")], 200, 0))
    found += counted(augment_titles(train, 200, 0, similarity=(0.95, 0.99)))
    found += counted(augment_titles(train, 200, 0, max_characters=20))
    long = "Truck Driver for the Long Road to the North of England"
    held = [title("h", long.replace("Road", "Way"), "9")]
    found += counted(augment_titles([title("z", long, "1")], 300, 0, held, near_threshold=0.3))
    assert {"equal", "other-family", "too-close", "too-far", "length", "near-duplicate"} <= set(found)
    assert set(found) <= {*REASONS, "equal", "other-family", "near-duplicate"}
