"""One pre-training run: network, optimizers, data and progress, stepped, measured, saved and restored together."""

from __future__ import annotations

import math
import os
from dataclasses import asdict
from pathlib import Path

import torch
from torch.nn import functional

from luthier.starter import group
from luthier.starter.model import IGNORE, Decoder
from luthier.starter.optimizer import build_optimizers, learning_rate_factor, set_peaks, set_rates
from luthier.starter.packing import Batch, Packer
from luthier.starter.settings import Progress, Settings

CHANGEABLE = {"minutes", "batch_tokens", "matrix_rate", "vector_rate", "decay_share", "last_share", "chat_share"}
"""Settings that a resumed run may change; the log notes them at each start."""


def native_bfloat16(device: str) -> bool:
    """Whether bfloat16 products are fast here: on CUDA, or on CPUs that have the instructions."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


class Run:
    """The state of a run and what can be done with it; the loop is in ``pretrain``."""

    def __init__(self, settings: Settings, packer: Packer, held_out: Packer, bytes_per_token: float) -> None:
        self.settings, self.packer, self.held_out = settings, packer, held_out
        self.bytes_per_token = bytes_per_token  # of the held-out text
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.dtype = torch.bfloat16 if native_bfloat16(self.device) else torch.float32
        self.network = Decoder(settings.shape, settings.seed).to(self.device)
        if settings.compile:
            self.network.model.compile(dynamic=False)
        self.optimizers = build_optimizers(
            self.network, settings.matrix_rate, settings.vector_rate, settings.weight_decay
        )
        self.progress = Progress()

    def save(self, path: Path) -> None:
        """Replace the checkpoint as a whole: a run killed at any moment finds the last one complete."""
        state = {
            "settings": asdict(self.settings),
            "progress": asdict(self.progress),
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "packer": self.packer.state(),
        }
        draft = path.with_suffix(".part")
        with draft.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)

    def restore(self, path: Path) -> bool:
        """Continue from the checkpoint; False if there is none."""
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        changed = {name for name, value in asdict(self.settings).items() if state["settings"][name] != value}
        if changed - CHANGEABLE:
            raise SystemExit(f"{path} was made with other {sorted(changed)}: give the same, or another --out")
        self.progress = Progress(**state["progress"])
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        set_peaks(self.optimizers, self.settings.matrix_rate, self.settings.vector_rate)
        self.packer.restore(state["packer"])
        return True

    def _draw(self) -> list[Batch]:
        """All micro-batches of one step; every process draws all of them, so that all agree on the position."""
        settings = self.settings
        length = settings.last_length if self.progress.long_rows else settings.length
        rows = max(1, settings.micro_tokens // length)
        count = max(1, settings.batch_tokens // (rows * length))
        if count % group.size():
            raise SystemExit(f"{count} micro-batches per step cannot be shared by {group.size()} processes")
        share = settings.chat_share if self.progress.decaying else 0.0
        return [self.packer.batch(rows, length, share) for _ in range(count)]

    def _backward(self, batches: list[Batch]) -> float:
        """Accumulate the gradient of the mean loss of all batches; returns that mean in nats per token."""
        counted = sum(int((batch.targets != IGNORE).sum()) for batch in batches)
        total = torch.zeros((), device=self.device)
        for batch in batches[group.rank() :: group.size()]:
            tokens, targets, documents = batch.to(self.device)
            loss = self.network.loss(tokens, targets, documents, dtype=self.dtype) / counted
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        group.add([total, *(weight.grad for weight in self.network.parameters() if weight.grad is not None)])
        return float(total)

    def step(self) -> dict[str, float]:
        """One update; returns the mean loss in nats per token, the gradient's norm and the rate factor."""
        progress = self.progress
        factor = learning_rate_factor(progress.step, progress.steps, self.settings.warmup, progress.decay)
        set_rates(self.optimizers, factor)
        batches = self._draw()
        loss = self._backward(batches)
        norm = float(torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip))
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        progress.step += 1
        progress.tokens += sum(batch.tokens.numel() for batch in batches)
        return {"loss": loss, "gradient_norm": norm, "rate": factor}

    @torch.no_grad()
    def measure(self, count: int = 9) -> dict[str, float]:
        """Nats per token and about the bits per byte of the first held-out rows: quick, and always the same rows."""
        state = self.held_out.state()
        batches = [self.held_out.batch(4, self.settings.last_length) for _ in range(count)]
        self.held_out.restore(state)
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        # Compiling for these few passes would cost more than it gains.
        with torch.compiler.set_stance("force_eager"):
            for batch in batches[group.rank() :: group.size()]:
                tokens, targets, documents = batch.to(self.device)
                logits = self.network.logits(tokens, documents).flatten(0, 1)
                nats = functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE, reduction="sum")
                sums += torch.stack([nats.double(), (targets != IGNORE).sum().double()])
        group.add([sums])
        loss = float(sums[0] / sums[1])
        return {"held_out_loss": loss, "held_out_bits_per_byte": loss / math.log(2) / self.bytes_per_token}
