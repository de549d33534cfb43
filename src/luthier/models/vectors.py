"""Texts to vectors: each distinct text is read once, short ones beside short ones; kept vectors and exact search."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from luthier.errors import UserError
from luthier.run.atomic import replacing
from luthier.run.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Vectors = NDArray[np.float32]
# Padded tokens read at once, by device type. cpu: MiniLM reads short titles as fast with 512 as with 4,096 on a core.
BUDGET = {"cpu": 1024, "mps": 8192, "cuda": 32768}
WINDOW = 8192  # texts that are tokenised and sorted together
BLOCK = 2**24  # similarities held at once in a search: 64 MiB
EXACT_LIMIT = 1_000_000


class Embedder:
    """Makes vectors of texts.

    Args:
        model: the transformer, plain or with an adapter, on its device. head: see `sentence.load_head`.
        tokenizer: of the base. max_length: tokens of a text at most.
        unit: give vectors of length 1; else of the length that the base's own modules give them.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        head: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        unit: bool = True,
    ) -> None:
        self._model: Any = model.eval()  # type: ignore[no-untyped-call]
        self._head, self._tokenizer = head.to(model.device), tokenizer
        self._max_length, self._unit = max_length, unit

    def embed(self, texts: Sequence[str], progress: Progress | None = None, name: str = "vectors") -> Vectors:
        """Return one vector for each text, [texts, dimensions], float32.

        Args:
            texts: n texts; equal ones are read once. progress: told the number of distinct texts. name: of that task.
        """
        distinct = list(dict.fromkeys(texts))
        place = {text: number for number, text in enumerate(distinct)}
        made: list[Vectors] = []
        with (progress or Silent()).task(name, len(distinct), "texts") as advance:
            for start in range(0, len(distinct), WINDOW):
                window = distinct[start : start + WINDOW]
                made.append(self._window(window, advance))
        if not made:
            return np.zeros((0, 0), dtype=np.float32)
        whole = made[0] if len(made) == 1 else np.concatenate(made)
        return whole if len(distinct) == len(texts) else whole[[place[text] for text in texts]]

    def _window(self, texts: Sequence[str], advance: Any) -> Vectors:
        ids = tokenise(self._tokenizer, texts, self._max_length)
        order = sorted(range(len(ids)), key=lambda at: (len(ids[at]), at))
        vectors: Vectors | None = None
        for places in _batches(order, [len(one) for one in ids], BUDGET.get(self._model.device.type, BUDGET["cuda"])):
            some = self._read([ids[at] for at in places])
            if vectors is None:
                vectors = np.empty((len(ids), some.shape[1]), dtype=np.float32)
            vectors[places] = some
            advance(len(places))
        return np.zeros((0, 0), dtype=np.float32) if vectors is None else vectors

    def _read(self, ids: Sequence[Sequence[int]]) -> Vectors:
        import torch

        with torch.inference_mode():
            tokens, mask = padded(ids, int(self._tokenizer.pad_token_id or 0))
            tokens, mask = tokens.to(self._model.device), mask.to(self._model.device)
            read = self._model(input_ids=tokens, attention_mask=mask)[0]
            vectors = self._head(read, mask).float()
            vectors = torch.nn.functional.normalize(vectors, dim=-1) if self._unit else vectors
        found: Vectors = vectors.cpu().numpy()
        return found


def tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int | None) -> list[list[int]]:
    """Return the tokens of each text with the base's special tokens, cut at `max_length` (None: whole)."""
    encoded = tokenizer(
        list(texts),
        truncation=max_length is not None,
        max_length=max_length,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def padded(ids: Sequence[Sequence[int]], pad_id: int) -> tuple[Any, Any]:
    """Return token ids and mask, each [texts, longest], int64, padded on the right."""
    import torch

    width = max(len(one) for one in ids)
    tokens = np.full((len(ids), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(ids), width), dtype=np.int64)
    for row, one in enumerate(ids):
        tokens[row, : len(one)] = one
        mask[row, : len(one)] = 1
    return torch.from_numpy(tokens), torch.from_numpy(mask)


def nearest(
    queries: Vectors, corpus: Vectors, k: int, leave_out: Sequence[int] | None = None
) -> tuple[NDArray[np.int64], Vectors]:
    """Return the k nearest of a corpus for each query by exact matrix products: places and similarities, best first.

    Ties go to the earlier place, so that the answer does not depend on how the work is cut into blocks.

    Args:
        queries: [n, dimensions], length 1. corpus: [m, dimensions], length 1. k: at most m are returned.
        leave_out: for each query a place of the corpus that is not an answer (the query itself), or -1.

    Raises:
        UserError: the corpus has more than a million vectors.
    """
    if len(corpus) > EXACT_LIMIT:
        raise UserError(
            f"Search here is exact, by matrix product, up to {EXACT_LIMIT:,} texts; these are {len(corpus):,}.",
            "",
            "Write the vectors with `luthier predict RUN FILE --to vectors.npy` and index them with faiss "
            "(pip install faiss-cpu; IndexHNSWFlat with inner product).",
        )
    k = min(k, len(corpus))
    places = np.zeros((len(queries), k), dtype=np.int64)
    values = np.zeros((len(queries), k), dtype=np.float32)
    rows = max(1, BLOCK // max(len(corpus), 1))
    for start in range(0, len(queries), rows):
        found = queries[start : start + rows] @ corpus.T
        if leave_out is not None:
            block = np.asarray(leave_out[start : start + rows])
            inside = np.flatnonzero(block >= 0)
            found[inside, block[inside]] = -np.inf
        order = _top(found, k)
        places[start : start + rows] = order
        values[start : start + rows] = np.take_along_axis(found, order, 1)
    return places, values


def fingerprint(identity: Sequence[str], texts: Sequence[str]) -> str:
    """Return the sha256 of what decides a set of vectors: who makes them, and the texts in their order."""
    digest = hashlib.sha256()
    for part in (*identity, "", *texts):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


def kept(folder: Path, name: str, mark: str) -> Vectors | None:
    """Return vectors that were kept under a name with this fingerprint; None when there are none, or others."""
    from safetensors import SafetensorError, safe_open

    path = folder / f"{name}.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("fingerprint") != mark:
                return None
            vectors: Vectors = file.get_tensor("vectors")
    except (OSError, SafetensorError):
        return None
    return vectors


def keep(folder: Path, name: str, mark: str, vectors: Vectors) -> None:
    """Write vectors as safetensors with their fingerprint, whole or not at all.

    Raises:
        UserError: the folder cannot be written to. StageError: the disk is full.
    """
    from safetensors.numpy import save

    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / f"{name}.safetensors") as file:
        file.write(save({"vectors": np.ascontiguousarray(vectors)}, {"fingerprint": mark}))


@contextmanager
def merged(model: Any) -> Iterator[Any]:
    """Lend a model with its adapter folded into the weights, which reads faster; the weights are put back after."""
    import torch

    layers = [module for module in model.modules() if hasattr(module, "get_base_layer") and hasattr(module, "merge")]
    held = [layer.get_base_layer().weight.detach().clone() for layer in layers]
    for layer in layers:
        layer.merge(safe_merge=True)
    try:
        yield model
    finally:
        with torch.no_grad():
            for layer, weight in zip(layers, held, strict=True):
                layer.unmerge()
                layer.get_base_layer().weight.copy_(weight)


def _top(found: Vectors, k: int) -> NDArray[np.int64]:
    """Return the places of the k largest values of each row, largest first, ties by place."""
    # All values as large as the k-th are candidates: which of the tied ones partition takes is not defined.
    edge = np.partition(found, found.shape[1] - k, axis=1)[:, -k]
    order = np.empty((len(found), k), dtype=np.int64)
    for row, (values, least) in enumerate(zip(found, edge, strict=True)):
        candidates = np.flatnonzero(values >= least)
        best = candidates[np.argsort(-values[candidates], kind="stable")[:k]]
        order[row] = best
    return order


def _batches(order: Sequence[int], lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for at in order:  # short to long: the new text is the longest of its batch
        if batch and (len(batch) + 1) * lengths[at] > budget:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch
