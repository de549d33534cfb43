"""The measures themselves: n-gram probabilities, windows of a long document, the shipped figures."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from luthier.starter.evaluate import document_nats, summary
from luthier.starter.model import Shape
from luthier.starter.references import KneserNey, ngram_nats, xz_bits_per_byte


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = Shape(vocabulary=64, hidden=32, layers=2, heads=4, kv_heads=2, feed_forward=64, context=32)
    return LlamaForCausalLM(LlamaConfig(**shape.llama_config(), initializer_range=0.5)).eval()


def test_kneser_ney_sums_to_one_in_every_context() -> None:
    rng = np.random.default_rng(0)
    known = KneserNey([rng.integers(0, 7, size=rng.integers(2, 40)) for _ in range(50)], 7, order=4)
    for context in ([], [1], [1, 2], [3, 3, 3], [6, 5, 4, 3]):
        total = sum(math.exp(-known.nats(np.array([*context, word]))[-1]) for word in range(7))
        assert total == pytest.approx(1.0)


def test_kneser_ney_by_hand() -> None:
    # Bigrams of 0 1 0 1 0 2: (0,1) twice, (1,0) twice, (0,2) once; one of three occurs once, two twice: D = 1/5.
    known = KneserNey([np.array([0, 1, 0, 1, 0, 2])], 3, order=2)
    # Continuation counts: 0 after {1}, 1 after {0}, 2 after {0}: each 1 of 3; D1 = 3/3 = 1, so unigrams are uniform.
    expected = (2 - 0.2) / 3 + 0.2 * 2 / 3 * (1 / 3)
    assert math.exp(-known.nats(np.array([0, 1]))[1]) == pytest.approx(expected)


def test_knowing_the_text_helps() -> None:
    rng = np.random.default_rng(1)
    text = rng.integers(0, 20, size=200)
    seen = [np.tile(text, 3), rng.integers(0, 20, size=100)]
    assert ngram_nats(seen, [text], 20, 3) < 0.5 * 199 * math.log(20)
    words = " ".join(f"word{n % 37} is {n * n % 101}" for n in range(2000))
    found = xz_bits_per_byte([words], [words[:5000]])
    assert found["primed"] < found["alone"] < 8


def test_windows_count_every_token_once(model: LlamaForCausalLM) -> None:
    ids = torch.randint(0, 64, (90,)).tolist()
    short = ids[:30]
    with torch.no_grad():
        logits = model(torch.tensor([short])).logits[0, :-1]
    assert document_nats(model, short, 32) == pytest.approx(
        functional.cross_entropy(logits, torch.tensor(short[1:]), reduction="sum").item(), rel=1e-5
    )
    with torch.no_grad():  # by hand: the window of each token begins at a multiple of half a context before it
        total, done, start = 0.0, 1, 0
        while done < len(ids):
            end = min(len(ids), start + 32)
            for place in range(done, end):
                row = model(torch.tensor([ids[start:place]])).logits[0, -1]
                total -= row.log_softmax(-1)[ids[place]].item()
            done, start = end, end - 16
    assert document_nats(model, ids, 32) == pytest.approx(total, rel=1e-4)


def test_summary_by_hand() -> None:
    found = summary([("a", 100 * math.log(2), 50, 10), ("b", 60 * math.log(2), 50, 10)])
    assert found["bits_per_byte"] == pytest.approx(1.6)
    assert found["perplexity"] == pytest.approx(2**8)
