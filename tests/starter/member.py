"""One member of a training group, as a program: it imports torch alone, where the whole script would take longer."""

import json

import numpy as np
import torch

from luthier.starter import group
from luthier.starter.model import Shape
from luthier.starter.packing import Packer
from luthier.starter.run import Run
from luthier.starter.settings import Settings


def learn() -> dict[str, object]:
    """Four steps on fixed documents."""
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 50, size=rng.integers(5, 60)).astype(np.uint16) for _ in range(40)]
    shape = Shape(vocabulary=50, hidden=32, layers=2, heads=4, kv_heads=2, feed_forward=64, context=32)
    settings = Settings(length=32, last_length=32, batch_tokens=256, micro_tokens=64, warmup=1, shape=shape)
    run = Run(settings, Packer(documents, [], 0), Packer(documents[:5], [], 0), 1.0)
    losses = [run.step()["loss"] for _ in range(4)]
    agreed = group.from_first(7.0 + group.rank(), run.device)
    group.wait()
    return {"losses": losses, "held_out": run.measure(4)["held_out_loss"], "agreed": agreed}


if __name__ == "__main__":
    torch.set_num_threads(1)
    group.join()
    print(json.dumps(learn()))
    group.leave()
