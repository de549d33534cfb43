"""The models and rows that benchmarks train on: random weights, rows drawn from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from luthier.kinds.causal_lm.rows import Example
from luthier.models import lora

SHAPES = ("a", "b", "c", "starter")
FALCON_TARGETS = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
PROMPT = 0.48  # share of a row that is not trained


def config(shape: str) -> Any:
    """Return the configuration of a: a Llama of 17.3 M, b: SmolLM2-135M, c: Falcon-RW-1B; or of the starter."""
    import transformers as t

    from luthier.models.load import load_config, resolve

    if shape == "a":
        return t.LlamaConfig(
            vocab_size=8192, hidden_size=384, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=6,
            num_key_value_heads=6, tie_word_embeddings=True, max_position_embeddings=1024,
        )  # fmt: skip
    return load_config(resolve({"b": "SmolLM2-135M-Instruct", "c": "falcon-rw-1b", "starter": "starter"}[shape]))


def model(shape: str, attention: str = "sdpa", dtype: torch.dtype = torch.float32, dropout: float = 0.0) -> Any:
    """Return a model of a shape with LoRA r 8: on all linear layers, on Falcon's four."""
    from transformers import AutoModelForCausalLM

    from luthier.models.load import load_causal, resolve

    torch.manual_seed(0)
    if shape == "starter":
        made: Any = load_causal(resolve("starter"), str(dtype).removeprefix("torch."))
    else:
        made = AutoModelForCausalLM.from_config(config(shape), dtype=dtype, attn_implementation=attention)
    targets: Any = FALCON_TARGETS if shape == "c" else "all-linear"
    return lora.attach(made, "lora", 8, 16, dropout, targets, 0)


def rows(vocabulary: int, count: int = 900, seed: int = 0) -> list[Example]:
    """Return rows of log-normal length (median 88, mean 100, at most 256 tokens), the last 52 % of each trained."""
    random = np.random.default_rng(seed)
    lengths = np.clip(random.lognormal(np.log(88), 0.55, count).astype(int), 16, 256)
    made = []
    for place, length in enumerate(lengths.tolist()):
        ids = random.integers(4, vocabulary, length).tolist()
        prompt = round(PROMPT * length)
        made.append(Example(str(place), ids, [-100] * prompt + ids[prompt:]))
    return made
