"""ONNX: a sentence model as one graph from tokens to vectors, run again by onnxruntime and compared."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.errors import UserError
from luthier.models.likeness import compare_vectors

if TYPE_CHECKING:
    import torch

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
OPSET = 18


def check_installed() -> None:
    """Raise a UserError when a library for ONNX is missing."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"ONNX needs {', '.join(missing)}, not installed here.", "export.onnx", "Run: pip install 'luthier[onnx]'"
        )


def write_onnx(merged: Path, folder: Path, texts: Sequence[str]) -> dict[str, Any]:
    """Write `folder`/model.onnx from a merged sentence-transformers folder, and compare the two.

    The graph takes `input_ids` and `attention_mask` [texts, tokens], int64, and gives `sentence_embedding` [texts,
    dimensions], float32, pooled as the model pools.

    Args:
        merged: the folder. folder: is replaced. texts: what both are asked.

    Returns:
        The entry of verify.json, see `models.likeness.compare_vectors`.

    Raises:
        UserError: a library is missing.
    """
    check_installed()
    from sentence_transformers import SentenceTransformer

    asked = list(texts)
    model = SentenceTransformer(str(merged), device="cpu", local_files_only=True).eval()
    before = model.encode(asked, convert_to_numpy=True, show_progress_bar=False)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in TOKENIZER:
        if (merged / name).is_file():
            shutil.copyfile(merged / name, folder / name)
    features = model.preprocess(asked)
    given = {name: features[name] for name in ("input_ids", "attention_mask")}
    _write(model, given, folder / "model.onnx")
    after = _run(folder / "model.onnx", {name: value.numpy() for name, value in given.items()})
    return {**compare_vectors(before, after), "texts": len(asked)}


def _write(model: Any, given: dict[str, torch.Tensor], path: Path) -> None:
    import torch

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            vectors: torch.Tensor = self.model({"input_ids": input_ids, "attention_mask": attention_mask})[
                "sentence_embedding"
            ]
            return vectors

    texts, tokens = torch.export.Dim("texts", min=1, max=4096), torch.export.Dim("tokens", min=2, max=512)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Graph().eval(),
            (given["input_ids"], given["attention_mask"]),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["sentence_embedding"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes={"input_ids": {0: texts, 1: tokens}, "attention_mask": {0: texts, 1: tokens}},
            external_data=False,
            verbose=False,
        )


def _run(path: Path, given: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: np.ndarray[Any, np.dtype[np.float32]] = session.run(["sentence_embedding"], given)[0]
    return found
