"""Rule-made variants: grammatical, traced, the answer untouched, and never close to another group."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.augment import Augmenter
from luthier.data.augment.rules import augment
from luthier.data.augment.table import Rules, shipped_rules
from luthier.data.near import near_pairs_between
from luthier.data.normal import normalised
from luthier.data.rows import Row, answer, question, whole_text

RULES = shipped_rules()


def chat(name, asked, said="An answer with a few words.", group=None, **more):
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return Row(id=name, form="chat", content={"messages": messages}, file="f", line=1, group=group, **more)


def texts(variants):
    return [variant.text for variant in variants]


# ── the table ──

REWORDED = {
    "What is overfitting?": ["Can you explain what overfitting is?", "How would you define overfitting?"],
    "What is the F1 score?": ["Can you explain what the F1 score is?"],
    "What are embeddings?": ["Can you explain what embeddings are?"],
    "What is the role of dropout in training?": ["Explain the role of dropout in training."],
    "What are the main assumptions of linear regression?": [
        "Explain the main assumptions of linear regression.",
        "Can you describe the main assumptions of linear regression?",
    ],
    "What is the difference between bagging and boosting?": [
        "Explain the difference between bagging and boosting.",
        "How does bagging differ from boosting?",
        "Explain how bagging differs from boosting.",
    ],
    "How does GRPO differ from PPO?": ["What is the difference between GRPO and PPO?"],
    "How does beam search work?": ["Explain how beam search works.", "Can you explain how beam search works?"],
    "How does caching work in Spark?": ["Explain how caching works in Spark."],
    "How do transformers work?": ["Explain how transformers work."],
    "Explain how beam search works.": ["How does beam search work?", "Can you explain how beam search works?"],
    "Describe how transformers work.": ["How do transformers work?"],
    "Explain what perplexity is.": ["What is perplexity?"],
    "Why is feature scaling important?": [
        "Explain why feature scaling is important.",
        "What makes feature scaling important?",
    ],
    "Why are p-values misleading in practice?": ["Explain why p-values are misleading in practice."],
    "Explain why calibration is useful.": ["Why is calibration useful?"],
    "Why do we split data before scaling?": ["Explain why we split data before scaling."],
    "How would you design a feature store?": [
        "Describe how you would design a feature store.",
        "Walk me through how you would design a feature store.",
    ],
    "How do you handle missing values?": [
        "How would you handle missing values?",
        "Explain how you handle missing values.",
    ],
    "How can we detect drift?": ["Explain how we can detect drift."],
    "Describe how you would shard a table.": ["How would you shard a table?"],
    "When would you use Huber loss?": ["In which situations would you use Huber loss?"],
    "What happens if the learning rate is too high?": ["Explain what happens if the learning rate is too high."],
    "What does perplexity measure?": ["Explain what perplexity measures."],
    "What does a reranker do?": ["Explain what a reranker does."],
    "What would you log in production?": ["Tell me what you would log in production."],
    "Compare L1 and L2, and say when you would use each.": [
        "Can you compare L1 and L2, and say when you would use each?"
    ],
    "Walk me through a code review.": ["Could you walk me through a code review?"],
    "Can you explain gradient clipping?": ["Please explain gradient clipping.", "Explain gradient clipping."],
}


@pytest.mark.parametrize(("asked", "expected"), REWORDED.items())
def test_patterns_ask_the_same_in_other_forms(asked, expected):
    made = texts(RULES.reworded(asked))
    assert set(expected) <= set(made)
    assert all(text[0].isupper() and text[-1] in ".?" and "{" not in text and "  " not in text for text in made)


def test_every_pattern_has_an_example_here():
    used = {variant.rule for asked in REWORDED for variant in RULES.reworded(asked)}
    assert used == {pattern.name for pattern in RULES._patterns}


@pytest.mark.parametrize(
    "asked",
    [
        "What is overfitting, and how do you prevent it?",
        "What is dropout and why does it help?",
        "What is gradient clipping used for?",
        "What is wrong with accuracy here?",
        "What is the probability that two dice sum to seven?",
        "What is better for tabular data?",
        "How would you shard the table, and would you replicate it?",
        "Loss spikes at step 40,000. What do you do?",
        "Explain the trick. Then give an example.",
        "Why do we not shuffle time series?",
        "What are some ways of regularizing?",
        "Do you agree?",
    ],
)
def test_what_would_come_out_wrong_is_left_alone(asked):
    assert texts(RULES.reworded(asked)) == []


def test_plurals_do_not_differ_in_the_singular():
    made = texts(RULES.reworded("What is the difference between lists and tuples?"))
    assert "Explain the difference between lists and tuples." in made
    assert not any("does" in text or "differs" in text for text in made)
    assert "How does a class differ from an object?" in texts(
        RULES.reworded("What is the difference between a class and an object?")
    )


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (
            "How does PCA relate to SVD?",
            [
                "How does principal component analysis relate to SVD?",
                "How does PCA relate to singular value decomposition?",
            ],
        ),
        ("Machine learning on a phone?", ["ML on a phone?"]),
        ("LLMs on a phone?", ["Large language models on a phone?"]),
        ("Do support vector machines scale?", ["Do SVMs scale?"]),
        ("What is an ML engineer?", []),
        ("What is ML-based search?", []),
        ("What does PCA stand for?", []),
        ("What is principal component analysis (PCA)?", []),
        ("What is HTML?", []),
    ],
)
def test_abbreviations(asked, expected):
    assert sorted(texts(RULES.abbreviated(asked))) == sorted(expected)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("How would you handle a spike?", "How would you deal with a spike?"),
        ("In practice, is it enough?", "In real projects, is it enough?"),
        ("Is it usually enough?", "Is it typically enough?"),
        ("Which dataset fits?", "Which data set fits?"),
        ("Is it slow, and how do you fix it?", "Is it slow, and how would you fix it?"),
        ("Is the handle open?", None),
        ("What do you mean?", None),
    ],
)
def test_synonyms(asked, expected):
    assert texts(RULES.synonymous(asked)) == ([expected] if expected else [])


def test_an_article_keeps_its_sound():
    rules = Rules(
        {
            "second_question": "$^",
            "pieces": {},
            "patterns": [],
            "abbreviations": {},
            "contractions": [],
            "framings": [],
            "synonyms": [{"from": "error", "to": "mistake"}, {"from": "error", "to": "issue"}],
        }
    )
    assert texts(rules.synonymous("Is it an error?")) == ["Is it an issue?"]
    assert texts(rules.synonymous("Is it the error?")) == ["Is it the mistake?", "Is it the issue?"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("What is the KV cache?", "What's the KV cache?"),
        ("What's recall?", "What is recall?"),
        ("Explain why accuracy is not enough.", "Explain why accuracy isn't enough."),
        ("Why don't we shuffle?", None),
        ("Explain what it is.", None),
    ],
)
def test_contractions(asked, expected):
    assert texts(RULES.contracted(asked)) == ([expected] if expected else [])


def test_framings_fit_the_context():
    plain = texts(RULES.framed("Why?", "a shop assistant"))
    assert plain
    assert not any("interview" in text.lower() or "hiring" in text for text in plain)
    assert "Interview question: Why?" in texts(RULES.framed("Why?", "You are an Interview coach."))


# ── the rows ──

TRAIN = [
    chat(
        "a",
        "What is overfitting?",
        "It is learning noise; ä\n\tkept.",
        "g1",
        labels={"topic": "ml", "key_points": ["x"]},
    ),
    chat("b", "How does beam search work?", "It keeps the best k prefixes.", None, labels={"topic": "llm"}),
    chat("c", "Explain why calibration is useful.", "Because thresholds need it.", "g3"),
]


def test_variants_are_traced_and_keep_the_answer():
    before = deepcopy(TRAIN)
    made = augment(TRAIN, 9, 0)
    assert before == TRAIN
    assert [row.made_from for row in made.rows] == ["a", "a", "b", "b", "c", "c"]  # evenly, in the order of the sources
    assert [row.id for row in made.rows] == ["a~1", "a~2", "b~1", "b~2", "c~1", "c~2"]
    assert [row.group for row in made.rows] == ["g1", "g1", "b", "b", "g3", "g3"]
    sources = {row.id: row for row in TRAIN}
    for row in made.rows:
        source = sources[row.made_from]
        assert answer(row) == answer(source)
        assert (row.labels, row.file, row.line) == (source.labels, source.file, source.line)
        assert row.labels is not source.labels
        assert normalised(question(row)) != normalised(question(source))
        assert row.made_by
    assert made.warnings == []
    assert sum(made.made_by.values()) == 6


def test_an_uneven_target_is_met_exactly():
    made = augment(TRAIN, 7, 0)
    assert len(made.rows) == 4
    assert sorted(len([row for row in made.rows if row.made_from == name]) for name in "abc") == [1, 1, 2]


def test_a_target_below_twice_the_rows_gives_no_source_two():
    train = [chat(f"r{number}", f"Is topic {number} hard to learn?", f"Answer {number}.") for number in range(50)]
    made = augment(train, 70, 0)
    assert len({row.made_from for row in made.rows}) == 20
    near = [chat("held", "What is overfitting?", TRAIN[0].content["messages"][1]["content"], "other")]
    assert len(augment([*train, TRAIN[0]], 70, 0, near).rows) == 19


def test_same_seed_same_rows_and_another_seed_others():
    first, again, other = (augment(TRAIN, 12, seed).rows for seed in (1, 1, 2))
    assert first == again
    assert [question(row) for row in first] != [question(row) for row in other]


def test_a_target_out_of_reach_is_explained():
    made = augment(TRAIN, 1000, 0)
    assert 10 < len(made.rows) < 997
    (warning,) = made.warnings
    assert f"The rules made {len(made.rows):,} of the 997 rows that were wanted" in warning
    assert "Refused:" in warning


def test_a_target_that_is_met_makes_nothing():
    made = augment(TRAIN, 3, 0)
    assert made.rows == []
    assert "reached without augmentation" in made.warnings[0]


def test_a_question_that_stands_already_is_refused():
    taken = "Can you explain what overfitting is?"
    made = augment([TRAIN[0]], 100, 0, [chat("held", taken, "Another answer altogether.", "g9")])
    assert taken not in {question(row) for row in made.rows}
    assert made.refused["equal"] >= 1
    # the same row within the training side, and in the same group, is refused as well
    assert augment([TRAIN[0], chat("d", taken, group="g1")], 3, 0).rows[0].id


def test_a_variant_close_to_another_group_is_refused_and_to_its_own_is_not():
    said = " ".join(f"w{number}" for number in range(150))
    twin = chat("twin", "Describe overfitting to a child.", said, "other")
    source = chat("a", "What is overfitting?", said, "g1")
    assert augment([source], 4, 0, [twin]).rows == []
    assert augment([source], 4, 0, [twin]).refused["near-duplicate"] >= 3
    assert augment([source, twin], 5, 0).rows == []
    assert len(augment([source], 4, 0, [twin], near_threshold=None).rows) == 3
    twin.group = "g1"
    assert len(augment([source, twin], 5, 0).rows) == 3


def test_length_bounds():
    made = augment([chat("a", "Why?", "Because.")], 100, 0, max_characters=36)
    assert all(len(whole_text(row)) <= 36 for row in made.rows)
    assert made.refused["length"] >= 1


def test_rows_that_cannot_be_varied_are_left_alone_and_told():
    messages = [{"role": role, "content": f"{role} says"} for role in ("user", "assistant", "user", "assistant")]
    turns = Row(id="t", form="chat", content={"messages": messages}, file="f", line=1)
    pair = Row(id="p", form="pair", content={"texts": ["a", "b"]}, file="f", line=1)
    derived = chat("x~1", "Can you explain drift?", made_from="x", made_by="rule")
    made = augment([turns, pair, derived, TRAIN[0]], 6, 0)
    assert {row.made_from for row in made.rows} == {"a"}
    assert "2 of 4 training rows are left alone" in made.warnings[0]
    assert augment([turns], 5, 0).rows == []


def test_a_system_message_stays_and_opens_framings():
    row = chat("a", "Is it slow?")
    row.content["messages"].insert(0, {"role": "system", "content": "You are an interview coach."})
    made = augment([row], 8, 0)
    assert all(one.content["messages"][0] == row.content["messages"][0] for one in made.rows)
    assert any("nterview" in question(one) for one in made.rows)
    assert any(
        "nterview" in question(one) for one in augment([chat("a", "Is it slow?")], 8, 0, context="interview").rows
    )


def test_ids_stay_unique():
    made = augment([TRAIN[0], chat("a~1", "Is drift bad?", "Often.", "g7")], 6, 0)
    ids = ["a", "a~1", *(row.id for row in made.rows)]
    assert len(set(ids)) == len(ids)


def test_it_is_an_augmenter():
    way: Augmenter = augment
    assert len(way(TRAIN, 4, 0).rows) == 1


QUESTIONS = st.sampled_from(
    [*REWORDED, "Is ML hard?", "What is PCA?", "Do you agree?", "What is SVD, and how do you compute it?"]
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(QUESTIONS, st.sampled_from([None, "g1", "g2"])), min_size=1, max_size=8),
    st.lists(QUESTIONS, max_size=3),
    st.integers(1, 40),
    st.integers(0, 99),
)
def test_every_variant_passes_every_check(found, held, target, seed):
    train = [chat(f"r{n}", asked, f"Answer {n} to that, in words.", group) for n, (asked, group) in enumerate(found)]
    others = [chat(f"h{n}", asked, "Held-out answer with other words.") for n, asked in enumerate(held)]
    made = augment(train, target, seed, others)
    assert len(train) + len(made.rows) <= max(target, len(train))
    asked = [normalised(question(row)) for row in made.rows]
    assert len(set(asked)) == len(asked)
    assert not set(asked) & {normalised(question(row)) for row in (*train, *others)}
    sources = {row.id: row for row in train}
    for row in made.rows:
        source = sources[row.made_from]
        assert answer(row) == answer(source)
        assert row.group == (source.group or source.id)
    against = [*train, *others, *made.rows]
    groups = [*(row.group or row.id for row in train), *(None for _ in others), *(row.group for row in made.rows)]
    for pair in near_pairs_between([question(row) for row in made.rows], [question(row) for row in against], 0.85):
        assert groups[pair.second] == made.rows[pair.first].group
    if len(train) + len(made.rows) < target:
        assert "wanted" in made.warnings[-1]
