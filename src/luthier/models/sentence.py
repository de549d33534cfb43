"""Sentence-embedding models: the transformer that reads, and the head that makes one vector of what it read.

A sentence-transformers folder lists its modules in modules.json: a transformer first, then pooling, and often a dense
layer or a normalisation. Luthier adapts the transformer alone; the modules after it are kept as they are, so that what
is trained answers wherever the base did. A plain encoder has no such list: its token vectors are averaged.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from luthier.errors import UserError
from luthier.models.attention import eager_up_to
from luthier.models.bases import Base, offline
from luthier.models.load import device_type, is_causal, load_config, load_weights, pick_dtype

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LIBRARY = "sentence_transformers.sentence_transformer.modules"
MODULES = "modules.json"
INSTALL = "Run: pip install 'luthier[embedding]'"
# Modules after the transformer that are plain tensor functions; older folders name them by older paths.
HEAD_MODULES = ("Pooling", "Dense", "Normalize", "LayerNorm", "Dropout", "WeightedLayerPooling")


@dataclass(frozen=True)
class Layout:
    """How a base makes one vector of a text.

    Attributes:
        folder: where its modules stand; None for a plain encoder.
        head: (name, folder) of the modules after the transformer, in order.
        max_length: tokens that it reads at most, None where it sets no limit.
        notes: one sentence for each thing that the user should know.
    """

    folder: Path | None = None
    head: tuple[tuple[str, str], ...] = ()
    max_length: int | None = None
    notes: tuple[str, ...] = field(default=())


def layout_of(base: Base) -> Layout:
    """Return how a base makes vectors, from its modules.json and the settings beside it.

    Raises:
        UserError: a module is none that Luthier knows, or the base's files cannot be read.
    """
    folder = _folder(base)
    if folder is None or not (folder / MODULES).is_file():
        note = f"{base.name} is a plain encoder without pooling: the vectors of its tokens are averaged (mean pooling)"
        return Layout(notes=(note,))
    modules = [(str(one["type"]).rpartition(".")[2], str(one["path"])) for one in _read(folder / MODULES)]
    first, *head = modules
    unknown = [name for name, _ in head if name not in HEAD_MODULES]
    if first[0] != "Transformer" or first[1] or unknown:
        raise UserError(
            f"{base.name} has modules that Luthier does not train: {', '.join(unknown) or ' in '.join(first)}.",
            str(folder / MODULES),
            f"Choose a base whose first module is a Transformer, followed by {', '.join(HEAD_MODULES)}.",
        )
    settings = _read(folder / "sentence_bert_config.json", {})
    if _read(folder / "config_sentence_transformers.json", {}).get("default_prompt_name"):
        raise UserError(
            f"{base.name} puts a prompt before every text, which Luthier does not.",
            str(folder / "config_sentence_transformers.json"),
            "Choose another base, or a copy of it without default_prompt_name and with the prompt in your texts.",
        )
    return Layout(folder, tuple(head), settings.get("max_seq_length"))


def load_encoder(base: Base, dtype: str = "auto", method: str = "lora") -> PreTrainedModel:
    """Load the transformer of a sentence-embedding base on the CPU, ready to be adapted.

    Its own dropout is switched off: a pass gives the same vectors every time, which cached gradients rest on, and a
    step is faster. The adapter's dropout is the recipe's.

    Args:
        base: where it is. dtype: see `load.pick_dtype`. method: of the adapter; "qlora" is for language models.

    Raises:
        UserError: the base is not at hand, writes text instead of reading it, has pickles for weights or lacks some.
    """
    from transformers import AutoModel

    if method == "qlora":
        raise UserError("qlora is for causal language models.", "adapter.method", "Use lora: encoders are small.")
    if is_causal(load_config(base)):
        raise UserError(
            f"{base.name} writes text; it is no encoder of sentences.",
            "model.base",
            "Choose minilm, all-mpnet-base-v2 or another sentence-transformers base, or kind: causal-lm.",
        )
    chosen = pick_dtype(dtype, method)
    settings: dict[str, Any] = {"dtype": chosen}
    if eager_up_to(device_type(), chosen):
        settings["attn_implementation"] = "eager"  # texts of this kind are short
    model: PreTrainedModel = load_weights(base, AutoModel.from_pretrained, settings, may_lack="pooler")
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
        if isinstance(getattr(model.config, name, None), float):
            setattr(model.config, name, 0.0)
    _switch_dropout_off(model)
    return model


def load_head(base: Base) -> nn.Module:
    """Load what stands after the transformer: a frozen module from (token vectors, mask) to vectors.

    Its forward takes `tokens` [texts, longest, hidden] and `mask` [texts, longest] and returns [texts, dimensions],
    float32.

    Raises:
        UserError: sentence-transformers is not installed, or a module cannot be read.
    """
    _require_library()
    layout = layout_of(base)
    modules = import_module(LIBRARY)
    if layout.folder is None:
        made = [modules.Pooling(int(load_config(base).hidden_size), "mean")]
    else:
        try:
            made = [getattr(modules, name).load(str(layout.folder / path)) for name, path in layout.head]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"The modules of this base cannot be read: {error}", str(layout.folder)) from error
    return _head(made)


def save_sentence_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, base: Base, max_length: int, folder: Path
) -> None:
    """Write a plain sentence-transformers folder: a merged transformer, its tokenizer, and the base's own head.

    Args:
        model: the transformer without an adapter. max_length: tokens that it is to read at most.
        folder: is created. `SentenceTransformer(folder)` loads it without Luthier.
    """
    _require_library()
    from sentence_transformers import SentenceTransformer

    models = import_module(LIBRARY)
    inner = folder / "inner"
    model.save_pretrained(str(inner))
    plain = copy(tokenizer)
    plain.chat_template = None  # with one, sentence-transformers would read each text as a message of a chat
    plain.save_pretrained(str(inner))
    transformer = models.Transformer(str(inner), max_seq_length=max_length)
    head: Any = load_head(base)
    whole = SentenceTransformer(modules=[transformer, *head.parts], device="cpu")
    whole.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)
    for file in inner.iterdir():
        file.unlink()
    inner.rmdir()


def _head(parts: list[Any]) -> nn.Module:
    from torch import nn

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(parts)

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            features: dict[str, Any] = {"token_embeddings": tokens.float(), "attention_mask": mask}
            for part in self.parts:
                features = part(features)
            vectors: torch.Tensor = features["sentence_embedding"]
            return vectors

    return Head().requires_grad_(False).eval()


def _switch_dropout_off(model: nn.Module) -> None:
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def _folder(base: Base) -> Path | None:
    """Return the folder of a base's files; from the Hub, only the small ones are fetched."""
    if base.path is not None:
        return base.path
    from huggingface_hub import snapshot_download

    wanted = ["*.json", "*/config.json", "*/model.safetensors"]
    for local in (True, False):
        try:
            return Path(snapshot_download(base.source, allow_patterns=wanted, local_files_only=local))
        except (OSError, ValueError) as error:
            if not local or offline():
                raise UserError(
                    f"Not on this machine: the modules of {base.name}.",
                    f"model.base: {base.source}",
                    f"With a network, run: hf download {base.source}",
                ) from error
    return None


def _read(path: Path, default: Any = None) -> Any:
    if default is not None and not path.is_file():
        return default
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise UserError(f"This file of the base cannot be read: {error}", str(path), "Fetch the base again.") from error


def _require_library() -> None:
    if find_spec("sentence_transformers") is None:
        raise UserError("The kind embedding needs sentence-transformers, which is not installed.", "", INSTALL)
