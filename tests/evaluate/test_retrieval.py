"""Retrieval scores are those of sentence-transformers' evaluator; queries and corpora are what the protocol says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from luthier.errors import UserError
from luthier.evaluate.evidence import choose_metrics
from luthier.evaluate.ranking import RANKED, TITLES, geometry, ranks_of_relevant, spearman_parts
from luthier.evaluate.trials import among_titles, held_out
from luthier.kinds import kind_named
from luthier.models.vectors import fingerprint, keep, kept, nearest
from tests.kinds.encoders import texts, titles


def unit(rows: int, seed: int = 0, size: int = 8) -> Any:
    made = np.random.default_rng(seed).normal(size=(rows, size)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


class Fixed:
    """Stands for a model of sentence-transformers: the vectors of texts that are numbers."""

    def __init__(self, vectors: Any) -> None:
        self.vectors = vectors
        self.similarity_fn_name = "cosine"

    def encode(self, sentences: list[str], **_: Any) -> Any:
        return torch.from_numpy(np.stack([self.vectors[int(text)] for text in sentences]))

    encode_query = encode_document = encode


def test_scores_are_those_of_sentence_transformers() -> None:
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    vectors, draw = unit(90), np.random.default_rng(1)
    queries, corpus = list(range(30)), list(range(30, 90))
    relevant = {query: sorted(draw.choice(corpus, size=1 + query % 5, replace=False).tolist()) for query in queries}
    evaluator = InformationRetrievalEvaluator(
        {str(query): str(query) for query in queries},
        {str(place): str(place) for place in corpus},
        {str(query): {str(place) for place in found} for query, found in relevant.items()},
        mrr_at_k=[60], map_at_k=[60], ndcg_at_k=[10], accuracy_at_k=[10], precision_recall_at_k=[1, 5, 10],
        score_functions={"cosine": lambda left, right: left @ right.T},
    )  # fmt: skip
    theirs = evaluator.compute_metrices(Fixed(vectors))["cosine"]  # type: ignore[arg-type]
    places = [[place - 30 for place in found] for found in relevant.values()]
    ranks = ranks_of_relevant(vectors[:30], vectors[30:], places, [-1] * 30)
    mine = {name: float(np.mean([measure(one) for one in ranks])) for name, (_, measure) in RANKED.items()}
    assert mine["mrr"] == pytest.approx(theirs["mrr@k"][60])
    assert mine["map"] == pytest.approx(theirs["map@k"][60])
    assert mine["ndcg@10"] == pytest.approx(theirs["ndcg@k"][10])
    assert mine["hit@10"] == pytest.approx(theirs["accuracy@k"][10])
    for k in (1, 5, 10):
        assert mine[f"recall@{k}"] == pytest.approx(theirs["recall@k"][k])
    assert 0 < mine["recall@10"] < 1


def test_ranks_leave_the_query_out_and_break_ties_by_place() -> None:
    corpus = np.array([[1, 0], [0, 1], [1, 0], [0.6, 0.8]], dtype=np.float32)
    assert ranks_of_relevant(corpus[:1], corpus, [[2, 3]], [0]) == [[1, 2]]
    assert ranks_of_relevant(corpus[:1], corpus, [[2]], [-1]) == [[2]]
    assert ranks_of_relevant(corpus[:1], corpus, [[0]], [-1]) == [[1]]


@pytest.mark.parametrize("block", [7, 10**6])
def test_search_is_exact_in_any_blocks(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("luthier.models.vectors.BLOCK", block)
    queries, corpus = unit(9, 1), np.concatenate([unit(40, 2), unit(40, 2)])  # every text stands there twice
    places, similar = nearest(queries, corpus, 12, [-1, 3, *[-1] * 7])
    whole = queries @ corpus.T
    whole[1, 3] = -np.inf
    for row in range(9):
        expected = sorted(range(80), key=lambda at: (-whole[row, at], at))[:12]
        assert places[row].tolist() == expected
        np.testing.assert_allclose(similar[row], whole[row, expected], rtol=1e-6)
    assert nearest(queries, corpus[:3], 12)[0].shape == (9, 3)


def test_a_million_is_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.models.vectors.EXACT_LIMIT", 5)
    with pytest.raises(UserError, match=r"up to 5 texts; these are 6") as error:
        nearest(unit(1), unit(6), 1)
    assert "faiss" in error.value.remedy


def test_spearman_parts_add_up_to_the_correlation() -> None:
    draw = np.random.default_rng(0)
    similar = draw.normal(size=50).tolist()
    scores = [round(value + 0.5 * noise, 1) for value, noise in zip(similar, draw.normal(size=50), strict=True)]
    assert np.mean(spearman_parts(similar, scores)) == pytest.approx(spearmanr(similar, scores).statistic)
    assert spearman_parts([1.0, 2.0], [3.0, 3.0]) == [0.0, 0.0]


def test_alignment_and_uniformity() -> None:
    same = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    told = geometry(same, [(0, 1), (0, 2)])
    assert told["alignment"] == pytest.approx(1.0)  # squared distances 0 and 2
    assert told["uniformity"] == pytest.approx(math.log((1 + 2 * math.exp(-4)) / 3))
    assert told["mean_similarity"] == pytest.approx(1 / 3)
    assert geometry(np.tile(same[:1], (9, 1)), [])["mean_similarity"] == pytest.approx(1.0)  # collapsed
    assert geometry(same, [])["alignment"] is None


def test_every_title_is_searched_for_among_all_others() -> None:
    trial = held_out(titles())
    assert trial is not None
    assert [query.id for query in trial.queries] == [row.id for row in titles()]
    assert trial.queries[5].relevant == (4, 6, 7)
    assert trial.queries[5].own == 5
    assert trial.queries[5].group == "cook"
    assert trial.families[5] == ("cook",)
    assert trial.alone == 0


def test_titles_that_are_alone_are_searched_but_not_asked() -> None:
    trial = held_out(titles({"nurse": ["Nurse", "Ward Nurse"], "pilot": ["Pilot"]}))
    assert trial is not None
    assert [query.text for query in trial.queries] == ["Nurse", "Ward Nurse"]
    assert trial.corpus == ["Nurse", "Ward Nurse", "Pilot"]
    assert trial.alone == 1


def test_a_title_of_two_families_is_relevant_to_both_and_stands_there_once() -> None:
    trial = held_out(titles({"a": ["Nurse", "Ward Nurse"], "b": ["nurse ", "Carer"]}))
    assert trial is not None
    assert trial.corpus == ["Nurse", "Ward Nurse", "Carer"]
    assert trial.families[0] == ("a", "b")
    by_text = {query.text: query.relevant for query in trial.queries}
    assert by_text == {"Nurse": (1, 2), "Ward Nurse": (0,), "Carer": (0,)}


def test_titles_held_back_are_searched_for_among_the_trained_ones() -> None:
    rows = titles()
    trial = among_titles(rows[:1], rows[1:])
    (query,) = trial.queries
    assert query.own == -1
    assert [trial.corpus[at] for at in query.relevant] == ["Ward Nurse", "Staff Nurse, Night", "Nurse (Paediatrics)"]


def test_pairs_and_triplets_search_the_second_texts() -> None:
    rows = [
        texts("q one", "first", "other", place=0),
        texts("q one", "second", "other", place=1),
        texts("first", "third", "second", place=2),
    ]
    trial = held_out(rows)
    assert trial is not None
    assert trial.corpus == ["first", "other", "second", "third"]
    assert {query.text: (query.relevant, query.own) for query in trial.queries} == {
        "q one": ((0, 2), -1),
        "first": ((3,), 0),
    }
    assert held_out([texts("a", "b", score=0.5)]) is None


def test_kept_vectors_are_used_only_for_the_same_texts_and_model(tmp_path: Any) -> None:
    vectors = unit(3)
    mark = fingerprint(["model"], ["a", "b", "c"])
    assert kept(tmp_path, "corpus", mark) is None
    keep(tmp_path, "corpus", mark, vectors)
    found = kept(tmp_path, "corpus", mark)
    assert found is not None
    np.testing.assert_array_equal(found, vectors)
    for identity, words in ((["other"], ["a", "b", "c"]), (["model"], ["a", "c", "b"]), (["model", "a"], ["b", "c"])):
        assert kept(tmp_path, "corpus", fingerprint(identity, words)) is None
    (tmp_path / "corpus.safetensors").write_bytes(b"torn")
    assert kept(tmp_path, "corpus", mark) is None


def test_the_declared_metrics_are_those_that_are_measured() -> None:
    kind = kind_named("embedding")
    assert set(kind.higher_is_better) == set(TITLES)
    assert kind.primary_metric in TITLES
    assert choose_metrics("auto", kind.higher_is_better) == list(kind.higher_is_better)
    with pytest.raises(UserError, match="No metric 'recall@3'"):
        choose_metrics(["recall@3"], kind.higher_is_better)
