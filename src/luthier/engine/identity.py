"""What makes two trainings the same one, so that a checkpoint is never continued with other data, settings or model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from luthier.engine.sharding import whole

SAMPLED = 16  # values of each tensor that enter: enough to tell two models apart, without reading gigabytes


def fingerprint_of(
    model: Any, train: Sequence[Any], validation: Sequence[Any], settings: Mapping[str, Any], seed: int
) -> str:
    """Return the sha256 over settings, seed, all examples, and name, shape, dtype and first values of each parameter.

    Args:
        model: before its first step. train, validation: dataclass examples of JSON values.
        settings: how training goes. seed: of everything drawn.
    """
    digest = hashlib.sha256(orjson.dumps([dict(settings), seed], option=orjson.OPT_SORT_KEYS))
    for examples in (train, validation):
        digest.update(b"\0examples")
        for example in examples:
            digest.update(orjson.dumps(example, option=orjson.OPT_SERIALIZE_NUMPY))
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype} {parameter.requires_grad}".encode())
        sample = whole(parameter.detach()).flatten()[:SAMPLED].clone()  # numpy pins the memory of what it looks at
        digest.update(sample.float().cpu().numpy().tobytes())
    return digest.hexdigest()
