"""A base and what was tuned from it, once or several times: one set of base weights in memory for all adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Pair:
    """The two models, loaded when they are first asked for.

    Args:
        load_base: loads the base; called once. folder: the adapter, or the whole model of full fine-tuning.

    Other adapters of the same base take turns on it.
    """

    def __init__(self, load_base: Callable[[], PreTrainedModel], folder: Path) -> None:
        self._load_base = load_base
        self._folder = folder
        self._base: Any = None
        self._tuned: Any = None
        self._loaded: Path | None = None  # what stands in `_tuned`

    @contextmanager
    def base(self) -> Iterator[PreTrainedModel]:
        """Lend the base for a block: an adapter that is on it is switched off meanwhile."""
        model = self._base_model()
        if self._tuned is None or not hasattr(self._tuned, "disable_adapter"):
            yield model
        else:
            with self._tuned.disable_adapter():
                yield self._tuned

    @contextmanager
    def tuned(self, folder: Path | None = None) -> Iterator[PreTrainedModel]:
        """Lend the tuned model for a block.

        Args:
            folder: that of another training of the same base. Default: that of this object.

        Raises:
            UserError: there is nothing trained in the folder, or it belongs to another base.
        """
        from luthier.models.lora import load_adapter

        folder = folder or self._folder
        if self._loaded != folder:
            self._put_down()
            loaded: Any = load_adapter(self._base_model(), folder)
            self._tuned, self._loaded = _placed(loaded), folder
        yield self._tuned

    def _put_down(self) -> None:
        """Take the adapter off the base, whose own layers are put back; a whole model is let go."""
        if hasattr(self._tuned, "unload"):
            self._base = self._tuned.unload()
        self._tuned = self._loaded = None

    def _base_model(self) -> PreTrainedModel:
        if self._base is None:
            self._base = _placed(self._load_base())
        base: PreTrainedModel = self._base
        return base


def pick_device() -> torch.device:
    """Return the device to answer on: CUDA, Apple's MPS, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _placed(model: Any) -> Any:
    """Move a model to the device, ready to answer; quantised weights stay where they were loaded."""
    return (model if getattr(model, "is_quantized", False) else model.to(pick_device())).eval()
