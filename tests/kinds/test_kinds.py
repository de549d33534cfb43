"""Kinds are found by name, and declare what stages need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from luthier import kinds
from luthier.errors import UserError
from luthier.evaluate import evidence
from luthier.kinds import kind_named
from luthier.serve import load
from tests import tiny


@pytest.mark.parametrize("name", ["causal-lm", "embedding"])
def test_a_kind_has_its_four_parts(name: str) -> None:
    kind = kind_named(name)
    assert kind.name == name
    for part, functions in {
        kind.rows: ("encode", "trained_on", "prompts", "text_lengths", "end_ids", "prove_mask"),
        kind.model: ("load_base", "load_tokenizer", "embedder"),
        kind.learn: ("material", "measure", "pads"),
    }.items():
        assert all(callable(getattr(part, name)) for name in functions)
    assert kind.primary_metric in kind.higher_is_better
    assert kind.score.EVIDENCE in evidence.TABLE
    assert kind.model.GIVES in load.DOORS


def test_directions_of_metrics() -> None:
    assert kind_named("causal-lm").higher_is_better["perplexity"] is False
    assert all(kind_named("embedding").higher_is_better.values())


def test_the_declared_metrics_are_those_that_are_counted() -> None:
    from luthier.evaluate.text import METRICS

    assert set(kind_named("causal-lm").higher_is_better) == set(METRICS)


def test_a_kind_that_is_not_here_yet_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kinds.TABLE, "reranker", "luthier.kinds.reranker:KIND")
    with pytest.raises(UserError, match="'reranker' is not here yet") as error:
        kind_named("reranker")
    assert "causal-lm, embedding" in error.value.remedy


def test_an_unknown_kind_suggests() -> None:
    with pytest.raises(UserError, match="No kind 'casual-lm'") as error:
        kind_named("casual-lm")
    assert "'causal-lm'" in error.value.remedy


def test_naming_a_kind_loads_nothing_heavy() -> None:
    script = (
        "import sys; from luthier.kinds import kind_named; kind_named('causal-lm').primary_metric\n"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
        == "[]"
    )


def test_a_base_loads_with_a_ready_tokenizer(tmp_path: Path) -> None:
    from luthier.models.load import resolve

    base = resolve(str(tiny.make("llama", tmp_path / "base", chat_template=False)))
    model = kind_named("causal-lm").model
    tokenizer, done = model.load_tokenizer(base)
    assert len(done) == 1
    assert "ChatML" in done[0]
    assert tokenizer.chat_template
    assert model.load_base(base, "float32").config.model_type == "llama"
