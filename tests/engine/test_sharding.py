"""The proof that a divided model is still the same one, on one process that divides among itself alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from luthier.engine.material import Material
from luthier.engine.sharding import divide, is_divided
from luthier.errors import StageError
from tests.engine.little import collate, examples, loss_sum, model_at
from tests.tiny import make


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_a_model_that_is_another_one_once_divided_is_refused(tmp_path: Path) -> None:
    base = make("llama", tmp_path)
    model = model_at(base)
    told = divide(model, Material(examples(4), [], collate, loss_sum), "cpu")
    assert (told["layers"], told["share"], is_divided(model)) == (2, 1.0, True)

    def another(model: Any, batch: Any) -> Any:
        loss, count = loss_sum(model, batch)
        return (loss * 1.001 if is_divided(model) else loss), count

    with pytest.raises(StageError, match="the model has a loss of"):
        divide(model_at(base), Material(examples(4), [], collate, another), "cpu")
