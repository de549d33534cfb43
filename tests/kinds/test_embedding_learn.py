"""A step learns what sentence-transformers would: pooling, loss and gradient; and caching gradients changes nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.errors import UserError
from luthier.kinds import kind_named
from luthier.kinds.base import Objective
from luthier.kinds.embedding import learn, losses
from luthier.kinds.embedding.partners import Partners
from luthier.kinds.embedding.rows import encode
from luthier.models import lora, sentence
from luthier.models.bases import Base, resolve
from luthier.run import ranks
from tests.kinds import encoders
from tests.kinds.encoders import texts, titles

KIND = kind_named("embedding")
PAIRS = [
    texts("what is overfitting", "a model that fits the training data and fails on new data", place=0),
    texts("how does dropout help", "it removes random units", place=1),
    texts("learning rate", "how far each step goes", place=2),
    texts("capital of France", "Paris", place=3),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return resolve(str(encoders.base(tmp_path_factory.mktemp("base"))))


def adapted(base: Base, dropout: float = 0.0) -> Any:
    model = lora.attach(KIND.model.load_base(base, "float32"), "lora", 4, 8, dropout, "all-linear", 0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(1))
    return model


def teacher(base: Base, loss: Any, **sizes: int) -> learn.Teacher:
    tokenizer = KIND.model.load_tokenizer(base)[0]
    return learn.Teacher(sentence.load_head(base), int(tokenizer.pad_token_id), loss, **sizes)


def encoded(base: Base, rows: Any) -> Any:
    return encode(rows, KIND.model.load_tokenizer(base)[0], 64)


def gradients(model: Any, run: Any) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss = run(lambda loss: loss.backward())
    return float(loss), {
        name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None
    }


def same(mine: Any, other: Any, rtol: float = 1e-4) -> None:
    assert mine[0] == pytest.approx(other[0], rel=1e-5)
    assert mine[1].keys() == other[1].keys()
    assert max(float(gradient.abs().max()) for gradient in other[1].values()) > 0
    for name, gradient in mine[1].items():
        torch.testing.assert_close(gradient, other[1][name], rtol=rtol, atol=1e-6)


def test_vectors_are_those_of_sentence_transformers(base: Base) -> None:
    from sentence_transformers import SentenceTransformer

    words = ["a", "the learning rate says how far", "", "gradient descent " * 60]
    tokenizer = KIND.model.load_tokenizer(base)[0]
    mine = KIND.model.embedder(KIND.model.load_base(base, "float32"), base, tokenizer, 1024).embed(words)
    theirs = SentenceTransformer(base.source, device="cpu").encode(words)
    torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs), rtol=1e-5, atol=1e-6)


def test_a_step_is_that_of_sentence_transformers(base: Base) -> None:
    """The same adapter on its model class, its loss, its collation: the same value and gradients."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    model = adapted(base)
    rows = [*PAIRS[:2], *PAIRS[2:]]
    batch = learn.collate(encoded(base, rows).examples)
    mine = gradients(
        model,
        lambda backward: teacher(base, lambda step: losses.multiple_negatives(step, 20.0, False)).step(
            model, [batch], 4, backward
        ),
    )
    whole = SentenceTransformer(base.source, device="cpu")
    whole[0].model = model
    columns = [[row.content["texts"][side] for row in rows] for side in (0, 1)]
    features = [whole.preprocess(column) for column in columns]
    loss = MultipleNegativesRankingLoss(whole)

    def run(backward: Any) -> torch.Tensor:
        value = loss(features, None)
        backward(value)
        return value.detach()

    same(mine, gradients(model, run))


@pytest.mark.parametrize("rows", [PAIRS, titles()], ids=["pairs", "titles"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_cached_gradients_are_the_gradients(base: Base, rows: Any, dropout: float) -> None:
    model = adapted(base)
    examples = encoded(base, rows).examples
    partners = Partners(examples, 3)
    examples = [partners.vary(one, 0) if one.form == "title" else one for one in examples]
    batch = learn.collate(examples)

    def loss(step: losses.Step) -> torch.Tensor:
        return losses.multiple_negatives(step, 20.0, both_ways=True)

    held = teacher(base, loss, at_once=40, held=2**40)
    cached = teacher(base, loss, at_once=40, held=1)
    direct = gradients(model, lambda backward: held.step(model, [batch], len(examples), backward))
    same(gradients(model, lambda backward: cached.step(model, [batch], len(examples), backward)), direct)
    if dropout:
        noisy = adapted(base, dropout).train()
        torch.manual_seed(5)
        first = gradients(noisy, lambda backward: cached.step(noisy, [batch], len(examples), backward))
        torch.manual_seed(5)
        again = gradients(noisy, lambda backward: cached.step(noisy, [batch], len(examples), backward))
        same(first, again, rtol=0)
        assert first[0] != pytest.approx(direct[0], rel=1e-4)


def test_cached_gradients_with_dropout_are_those_of_the_loss_they_report(base: Base) -> None:
    """Both passes draw the same numbers: the loss falls as its gradient says."""
    model = adapted(base, 0.2).train()
    batch = learn.collate(encoded(base, PAIRS).examples)
    cached = teacher(base, lambda step: losses.multiple_negatives(step, 20.0, False), at_once=24, held=1)

    def run(backward: Any) -> torch.Tensor:
        torch.manual_seed(11)
        return cached.step(model, [batch], 4, backward)

    before, found = gradients(model, run)
    size = 1e-4
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in found:
                weight.sub_(size * found[name])
    after = float(run(lambda loss: None))
    expected = -size * sum(float((gradient**2).sum()) for gradient in found.values())
    assert after - before == pytest.approx(expected, rel=0.05)


def test_micro_batches_change_nothing(base: Base) -> None:
    model = adapted(base)
    examples = encoded(base, PAIRS).examples
    own = teacher(base, lambda step: losses.multiple_negatives(step, 20.0, False))
    one = gradients(model, lambda backward: own.step(model, [learn.collate(examples)], 4, backward))
    parts = [learn.collate(examples[:1]), learn.collate(examples[1:])]
    same(gradients(model, lambda backward: own.step(model, parts, 4, backward)), one)


def test_equal_texts_are_read_once(base: Base) -> None:
    model = adapted(base)
    rows = [texts("a question", f"answer {place}", place=place) for place in range(5)]
    batch = learn.collate(encoded(base, rows).examples)
    seen: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda _module, _arguments, inputs: seen.append(len(inputs["input_ids"])), with_kwargs=True
    )
    total, count = teacher(base, losses.cosine).loss_sum(model, batch | {"scores": torch.ones(5)})
    handle.remove()
    assert (sum(seen), count) == (6, 5)
    assert torch.isfinite(total)


def test_every_title_meets_every_other_before_one_comes_again(base: Base) -> None:
    examples = encoded(base, titles()).examples
    partners = Partners(examples, seed=1)
    for example in examples:
        drawn = [tuple(partners.vary(example, epoch).texts[1].input_ids) for epoch in range(6)]
        assert len(set(drawn[:3])) == 3
        assert drawn[3:] == drawn[:3]
        assert tuple(example.input_ids) not in drawn
    for epoch in range(3):
        drawn = [tuple(partners.vary(example, epoch).texts[1].input_ids) for example in examples]
        assert len(set(drawn)) == len(drawn)
    other = Partners(examples, seed=2)
    assert any(partners.vary(one, 0) != other.vary(one, 0) for one in examples)


def test_titles_that_the_tokenizer_takes_for_one_are_no_partners(base: Base) -> None:
    families = {**encoders.FAMILIES, "twins": ["Same", "Same", "Other"]}
    examples = encoded(base, titles(families)).examples
    partners = Partners(examples, seed=0)
    for epoch in range(4):
        for example in examples:
            assert partners.vary(example, epoch).texts[1].input_ids != example.input_ids


def test_a_measured_title_counts_a_partner(base: Base) -> None:
    examples = encoded(base, titles()).examples
    partners = Partners(examples, 0)
    first = examples[0]
    assert learn.measure(first).tokens == 2 * len(first.input_ids)
    varied = partners.vary(first, 0)
    assert learn.measure(varied).tokens == sum(len(text.input_ids) for text in varied.texts)
    assert learn.measure(first).weight == 1


@pytest.mark.parametrize(
    ("asked", "rows", "found"),
    [
        ("auto", PAIRS, "multiple-negatives"),
        ("auto", [texts("a", "b", place=0, score=0.5)], "cosine"),
        ("triplet", PAIRS, "triplet"),
    ],
)
def test_the_loss_follows_from_the_rows(base: Base, asked: str, rows: Any, found: str) -> None:
    assert learn.loss_named(asked, encoded(base, rows).examples) == found


@pytest.mark.parametrize(
    ("asked", "rows", "words"),
    [
        ("cosine", PAIRS, "4 of 4 have none"),
        ("multiple-negatives", [texts("a", "b", place=0, score=0.5)], "takes every pair for a match"),
    ],
)
def test_a_loss_that_the_rows_cannot_feed_is_refused(base: Base, asked: str, rows: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        learn.loss_named(asked, encoded(base, rows).examples)


def test_hard_negatives_are_near_and_of_no_related_family(base: Base) -> None:
    families = {**encoders.FAMILIES, "health visitor": ["Health Visitor", "Registered Nurse"]}
    read = encoded(base, titles(families))
    model = adapted(base)
    tokenizer = KIND.model.load_tokenizer(base)[0]

    def taught(margin: float) -> Any:
        return KIND.learn.material(model, read, None, tokenizer, base, Objective(hard_negatives=(2, margin)), seed=0)

    found, again = taught(0.0), taught(0.0)
    table = found.tables["hard-negatives"]
    assert table == again.tables["hard-negatives"]
    assert [line["id"] for line in table] == [example.id for example in read.examples]
    by_id = {example.id: example for example in read.examples}
    assert any(line["negatives"] for line in table)
    for line in table:
        own = {family for other in read.examples if other.family == by_id[line["id"]].family
               for family in other.texts[0].families}  # fmt: skip
        for negative in line["negatives"]:
            assert not own & set(by_id[negative["id"]].texts[0].families)
            assert negative["similarity"] <= line["positive"] + 1e-4
    far = taught(1.9).tables["hard-negatives"]
    assert not any(line["negatives"] for line in far)
    counted = {line["id"]: len(line["negatives"]) for line in table}
    for example in found.material.train:
        assert len(example.texts) == 1 + counted[example.id]
        assert len(found.material.vary(example, 0).texts) == 2 + counted[example.id]


def test_of_several_processes_one_mines_and_all_have_its_negatives(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    read, model = encoded(base, titles()), adapted(base)
    tokenizer = KIND.model.load_tokenizer(base)[0]
    said: list[Any] = []

    def taught() -> list[Any]:
        objective = Objective(hard_negatives=(2, 0.0))
        return list(KIND.learn.material(model, read, None, tokenizer, base, objective, seed=0).material.train)

    monkeypatch.setattr(ranks, "share", lambda value=None: said.append(json.loads(json.dumps(value))) or said[0])
    alone = taught()
    monkeypatch.setattr(ranks, "leads", lambda: False)
    assert taught() == alone
    assert any(len(example.texts) > 1 for example in alone)
    assert said[1] is None


def test_validation_rows_are_measured_in_fixed_pools(base: Base) -> None:
    read = encoded(base, titles())
    tokenizer = KIND.model.load_tokenizer(base)[0]
    taught = KIND.learn.material(adapted(base), read, read, tokenizer, base, Objective(), seed=0)
    (pool,) = taught.material.validation
    assert learn.measure(pool).weight == 16
    total, count = taught.material.loss_sum(adapted(base), learn.collate([pool]))
    assert count == 16
    assert float(total.detach()) > 0


def test_a_whole_adapter_is_attached_to_the_inner_transformer(base: Base) -> None:
    names = [name for name, _ in adapted(base).named_modules()]
    assert not any("pooling" in name.lower() for name in names)
    assert dataclasses.is_dataclass(learn.Pool)


def test_mpnet_counts_are_those_of_the_reference(tmp_path: Path) -> None:
    """The reference asked for query, key, value and dense: three of them match nothing in MPNet."""
    from luthier.errors import GateError
    from luthier.models import estimate
    from luthier.models.load import load_config

    config = load_config(resolve("all-mpnet-base-v2"))
    with pytest.raises(GateError, match="query, key, value match nothing in this base; q, k, v, o"):
        estimate.count(config, estimate.AdapterShape("lora", 16, ["query", "key", "value", "dense"]))
    wrong, _ = estimate.count(
        config, estimate.AdapterShape("lora", 16, ["query", "key", "value", "dense"]), allow_unmatched=True
    )
    assert (wrong.trainable, wrong.total) == (1_499_136, 110_985_600)
    right, report = estimate.count(config, estimate.AdapterShape("lora", 16, ["q", "k", "v", "o", "dense"]))
    # 12 layers, four square matrices of 768: 16 x (768 + 768) each, beside what dense alone has.
    assert right.trainable == 1_499_136 + 12 * 4 * 16 * (768 + 768)
    assert {match.name: match.matched for match in report} == {"q": 12, "k": 12, "v": 12, "o": 12, "dense": 25}
