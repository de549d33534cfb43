"""What becomes of titles, pairs and triplets: families, near-duplicates, what is held back, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from luthier.data.rows import Row
from luthier.errors import GateError, UserError
from luthier.kinds import kind_named
from luthier.kinds.embedding.rows import encode, held_back, prove_mask, text_lengths, trained_on
from tests.kinds import encoders
from tests.kinds.encoders import texts, titles


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from luthier.models.bases import resolve

    folder = encoders.base(tmp_path_factory.mktemp("base"))
    return kind_named("embedding").model.load_tokenizer(resolve(str(folder)))[0]


def test_the_base_says_how_many_tokens_are_read(tokenizer: Any) -> None:
    assert tokenizer.model_max_length == 64


def test_titles_know_their_families(tokenizer: Any) -> None:
    encoded = encode(titles(), tokenizer, 64)
    assert [example.id for example in encoded.examples] == [row.id for row in titles()]
    families = [example.family for example in encoded.examples]
    assert len(set(families)) == 4
    assert all(len(set(families[start : start + 4])) == 1 for start in range(0, 16, 4))
    own = [example.texts[0].families for example in encoded.examples]
    assert own[:4] == [own[0]] * 4
    assert not set(own[0]) & set(own[4])
    assert encoded.dropped == []
    assert encoded.notes == []


def test_the_number_of_a_family_is_that_of_its_name_alone(tokenizer: Any) -> None:
    """So that the order of the rows does not decide which partners are drawn."""
    there = {example.id: example.family for example in encode(titles(), tokenizer, 64).examples}
    back = {example.id: example.family for example in encode(titles()[::-1], tokenizer, 64).examples}
    assert there == back


def test_a_title_in_two_families_belongs_to_both_and_is_told(tokenizer: Any) -> None:
    families = {**encoders.FAMILIES, "health visitor": ["Health Visitor", "registered  nurse"]}
    encoded = encode(titles(families), tokenizer, 64)
    by_id = {example.id: example for example in encoded.examples}
    nurse, twin = by_id["t0"].texts[0], by_id["t17"].texts[0]
    assert nurse.near == twin.near
    assert set(nurse.families) == set(twin.families)
    assert len(nurse.families) == 2
    assert len(encoded.notes) == 1
    assert "1 titles stand in several families" in encoded.notes[0]
    assert "'registered nurse' in nurse, health visitor" in encoded.notes[0]


def test_titles_without_another_one_of_their_family_are_left_out(tokenizer: Any) -> None:
    families = {**encoders.FAMILIES, "pilot": ["Pilot"], "clerk": ["Clerk", "Clerk"]}
    encoded = encode(titles(families), tokenizer, 64)
    assert dict(encoded.dropped) == dict.fromkeys(
        ("t16", "t17", "t18"), "its family has no other title to pair it with"
    )


def test_one_family_cannot_be_trained(tokenizer: Any) -> None:
    rows = titles({"nurse": ["Nurse", "Ward Nurse"]})
    with pytest.raises(UserError, match="of one family"):
        prove_mask(rows, encode(rows, tokenizer, 64), tokenizer)


def test_families_of_one_title_cannot_be_trained(tokenizer: Any) -> None:
    rows = titles({"a": ["Nurse"], "b": ["Cook"], "c": ["Pilot"]})
    with pytest.raises(UserError, match="None of the 3 rows can be trained on: of 3, its family has no other title"):
        prove_mask(rows, encode(rows, tokenizer, 64), tokenizer)


def test_long_titles_are_cut_and_told(tokenizer: Any) -> None:
    families = {**encoders.FAMILIES, "long": ["x" * 10_000, "Short"]}
    encoded = encode(titles(families), tokenizer, 1024)
    assert encoded.truncated == ["t16"]
    assert len(next(example for example in encoded.examples if example.id == "t16").input_ids) == 64
    assert max(encoded.lengths) == text_lengths(titles(families), tokenizer)[16] > 64


def test_emoji_and_other_scripts_are_texts(tokenizer: Any) -> None:
    families = {**encoders.FAMILIES, "mixed": ["🚚 driver", "運転手", "Driver 🚚🚚"]}
    encoded = encode(titles(families), tokenizer, 64)
    assert len(encoded.examples) == 19
    proof = prove_mask(titles(families), encoded, tokenizer)
    assert proof.rows == 19
    assert proof.trained_tokens == proof.total_tokens == sum(len(one.input_ids) for one in encoded.examples)
    assert proof.shown[0].pieces == [("Registered Nurse", True), ("  [nurse]", False)]


def test_texts_that_the_tokenizer_does_not_know_stop_the_run() -> None:
    from luthier.models.bases import MINILM_PACKAGE, resolve

    pytest.importorskip(MINILM_PACKAGE)
    tokenizer = kind_named("embedding").model.load_tokenizer(resolve("minilm"))[0]
    rows = titles({"a": ["𐎠𐎡𐎢", "𐎣𐎤 𐎥"], "b": ["𐎠𐎤", "𐎢𐎥 𐎡"]})
    kept = [*titles(), *(Row(f"u{row.id}", "title", row.content, "u.csv", row.line) for row in rows)]
    encoded = encode(kept, tokenizer, 64)
    assert all(
        "unknown" in problem or "left out" in problem for problem in prove_mask(kept, encoded, tokenizer).problems
    )
    with pytest.raises(GateError, match="knows no word"):
        strange = titles({"a": ["𐎠𐎡𐎢", "𐎣𐎤 𐎥"], "b": ["𐎠𐎤", "x"]})
        prove_mask(strange, encode(strange, tokenizer, 64), tokenizer)


def test_pairs_share_the_family_of_their_first_text(tokenizer: Any) -> None:
    asked = [("what is it", "a thing"), ("What is it?", "an object"), ("why", "so")]
    rows = [texts(*own, place=place) for place, own in enumerate(asked)]
    first, second, third = encode(rows, tokenizer, 64).examples
    assert first.texts[0].near == second.texts[0].near
    assert set(first.texts[1].families) == set(second.texts[1].families)
    assert not set(first.texts[1].families) & set(third.texts[1].families)
    assert first.family == -1


def test_negatives_are_of_no_family(tokenizer: Any) -> None:
    (only,) = encode([texts("query", "match", "other one", "third one")], tokenizer, 64).examples
    assert [len(text.families) for text in only.texts] == [1, 1, 0, 0]


def test_pairs_of_equal_texts_teach_nothing(tokenizer: Any) -> None:
    encoded = encode([texts("same", "same", place=0), texts("a b", "c d", place=1)], tokenizer, 64)
    assert encoded.dropped == [("p0", "its two texts are the same to the tokenizer")]


@pytest.mark.parametrize(
    ("scores", "trained"),
    [([0.0, 0.5, 1.0], [0.0, 0.5, 1.0]), ([0.0, 2.5, 5.0], [0.0, 0.5, 1.0]), ([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0])],
)
def test_scores_are_brought_to_the_range_of_a_cosine(tokenizer: Any, scores: list[float], trained: list[float]) -> None:
    rows = [texts(f"first {place}", f"second {place}", place=place, score=one) for place, one in enumerate(scores)]
    encoded = encode(rows, tokenizer, 64)
    assert [example.score for example in encoded.examples] == pytest.approx(trained)
    assert bool(encoded.notes) == (scores != trained)


def test_other_forms_are_refused(tokenizer: Any) -> None:
    chat = Row("c", "chat", {"messages": []}, "rows.jsonl", 3)
    with pytest.raises(UserError, match="cannot train on rows of the form 'chat'") as error:
        encode([chat], tokenizer, 64)
    assert error.value.place == "rows.jsonl:3"
    with pytest.raises(UserError, match="several forms"):
        encode([*titles(), texts("a", "b")], tokenizer, 64)


def many(families: int, each: int) -> list[Row]:
    return titles({f"family {name}": [f"title {name} {place}" for place in range(each)] for name in range(families)})


def test_one_title_in_twenty_is_held_back_and_its_family_keeps_two() -> None:
    rows = many(40, 5)
    away = held_back(rows)
    assert len(away) == 10
    kept, told = trained_on(rows)
    assert {row.id for row in rows} - {row.id for row in kept} == set(away)
    assert "10 titles are held back" in told[0]
    assert away == held_back(rows[::-1])
    assert held_back(many(40, 2)) == []
    families = {row.id: str(row.content["label"]) for row in rows}
    assert all(sum(families[row.id] == families[name] for row in kept) >= 2 for name in away)


def test_what_was_made_from_a_title_is_held_back_with_it() -> None:
    rows = many(40, 5)
    made = [
        Row(f"m{row.id}", "title", {**row.content, "title": f"Senior {row.content['title']}"}, "m", 1, made_from=row.id)
        for row in rows
    ]
    away = set(held_back([*rows, *made]))
    assert len(away) == 20
    assert {f"m{name}" for name in away if not name.startswith("m")} == {name for name in away if name.startswith("m")}


def test_prompts_are_first_texts(tokenizer: Any) -> None:
    (prompt,) = kind_named("embedding").rows.prompts([texts("a query", "its match")], tokenizer)
    assert tokenizer.decode(prompt.input_ids) == "a query"
    assert prompt.reference == "its match"
    assert kind_named("embedding").rows.end_ids(tokenizer) == []


def test_a_plain_encoder_is_averaged_and_said_so(tmp_path: Path) -> None:
    from luthier.models.bases import resolve
    from tests import tiny

    plain = resolve(str(tiny.make("bert", tmp_path / "plain")))
    notes = kind_named("embedding").model.load_tokenizer(plain)[1]
    assert "mean pooling" in notes[0]
