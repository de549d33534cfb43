"""Write a trained starter as a plain transformers folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.starter.model import Decoder
from luthier.starter.tokenizer import TURN_START

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


REPETITION_PENALTY = 1.1
"""Of generation as shipped (Keskar et al., CTRL, 2019): so small a model, decoded greedily, falls into loops."""


def as_llama(network: Decoder, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The same network as a transformers model, in float32."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    llama = LlamaForCausalLM(LlamaConfig(**network.shape.llama_config(), **ids))
    missing, unexpected = llama.load_state_dict(network.state_dict(), strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise RuntimeError(f"names differ from Llama's: missing {missing}, unexpected {unexpected}")
    llama.tie_weights()
    # A chat ends its turn; plain text ends its document. Generation stops at either.
    stops = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    llama.generation_config = GenerationConfig(**{**ids, "eos_token_id": stops}, repetition_penalty=REPETITION_PENALTY)  # type: ignore[no-untyped-call]
    llama.eval()  # type: ignore[no-untyped-call]
    return llama


def export_model(network: Decoder, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save weights in bfloat16, to be small, with configuration and tokenizer.

    The configuration asks for float32: loaded with no dtype given, the model is then fast on CPUs without bfloat16.
    """
    as_llama(network.cpu(), tokenizer).bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _edit(folder / "config.json", {"dtype": "float32"})
    # The names that transformers 4, vLLM and converters read too.
    portable = {"tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": [TURN_START]}
    _edit(
        folder / "tokenizer_config.json",
        portable,
        drop=("extra_special_tokens", "backend", "is_local", "local_files_only"),
    )
    (folder / "model.safetensors").chmod(0o644)  # written for its owner only


def _edit(path: Path, values: dict[str, Any], drop: Iterable[str] = ()) -> None:
    """Change some entries of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8")) | values
    kept = {name: value for name, value in content.items() if name not in drop}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
