"""What decides a pre-training run: its settings, how far it is, and how the command line spells them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, fields
from pathlib import Path

from luthier.starter.model import Shape


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result, apart from the text. Lengths in tokens, rates at their peak."""

    minutes: float = 120.0
    steps: int = 0  # 0: as many as fit into the minutes
    length: int = 512
    last_length: int = 1024
    batch_tokens: int = 24576
    micro_tokens: int = 4096
    matrix_rate: float = 0.009
    vector_rate: float = 0.003
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: int = 40
    decay_share: float = 0.5
    last_share: float = 0.15
    long_rows_cost: float = 1.2
    chat_share: float = 0.1
    longest_chat: int = 200
    hold_out: float = 0.01
    seed: int = 0
    log_every: int = 10
    evaluate_every: int = 100
    checkpoint_minutes: float = 5.0
    compile: bool = False
    shape: Shape = field(default_factory=Shape)


HELP = {
    "minutes": "time to train for; decides the number of steps",
    "steps": "steps to train for; 0: as many as fit into --minutes",
    "length": "tokens per row until the last phase",
    "last_length": "tokens per row in the last phase",
    "batch_tokens": "tokens per step, over all processes",
    "micro_tokens": "tokens per forward pass",
    "matrix_rate": "peak learning rate of Muon, for the hidden matrices",
    "vector_rate": "peak learning rate of AdamW, for embedding and gains",
    "weight_decay": "decoupled, on the hidden matrices",
    "clip": "largest norm of the gradient",
    "warmup": "steps of linear warm-up",
    "decay_share": "last share of the run in which the rates fall to zero",
    "last_share": "last share of the run, within the decay, whose rows are longer",
    "long_rows_cost": "seconds per token in the last phase against before (attention costs more)",
    "chat_share": "share of the rows in the decay phase that hold instruction rows as chats",
    "longest_chat": "leave out longer instruction rows, in tokens",
    "hold_out": "share of the documents that is never trained on",
    "seed": "of initialisation and order",
    "log_every": "steps between lines of the log",
    "evaluate_every": "steps between looks at the held-out text",
    "checkpoint_minutes": "minutes between checkpoints",
    "compile": "torch.compile the network (needs a C++ compiler)",
    "vocabulary": "entries of the tokenizer, at most 65,535",
    "hidden": "width",
    "layers": "blocks",
    "heads": "attention heads",
    "kv_heads": "key and value heads",
    "feed_forward": "width of the SwiGLU block",
    "context": "largest position",
    "rope_theta": "base of the rotary positions",
    "epsilon": "of the norms",
}


@dataclass
class Progress:
    """Where a run stands. ``steps``, ``decay`` and ``last`` stay 0 until the length of the run is decided."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    steps: int = 0
    decay: int = 0  # how many of the steps, at the end, belong to the decay
    last: int = 0  # how many of those have the longer rows

    @property
    def decaying(self) -> bool:
        """Whether the learning rate falls already."""
        return self.steps > 0 and self.step >= self.steps - self.decay

    @property
    def long_rows(self) -> bool:
        """Whether the last phase, of longer rows, has begun."""
        return self.steps > 0 and self.step >= self.steps - self.last

    @property
    def finished(self) -> bool:
        """Whether every step is done."""
        return self.steps > 0 and self.step >= self.steps

    def decide(self, settings: Settings, seconds_per_step: float) -> bool:
        """Fix how many steps the run has; True when just decided.

        With ``settings.steps`` at once. Otherwise when the stable share of the time is spent: then the rest of the time
        is turned into steps, and from there on the schedule depends on steps alone, so that a resume repeats it.
        """
        if self.steps:
            return False
        if settings.steps:
            self.steps, self.decay = settings.steps, round(settings.steps * settings.decay_share)
            self.last = round(settings.steps * settings.last_share)
            return True
        budget = settings.minutes * 60
        if self.seconds < budget * (1 - settings.decay_share) or not seconds_per_step:
            return False
        steps_left = (budget - self.seconds) / seconds_per_step  # at the present pace
        long_part = min(1.0, settings.last_share / settings.decay_share)
        self.last = int(steps_left * long_part / settings.long_rows_cost)
        self.decay = max(1, int(steps_left * (1 - long_part)) + self.last)
        self.steps = self.step + self.decay
        return True


def parse(arguments: list[str] | None, description: str) -> tuple[argparse.Namespace, Settings]:
    """The command line as settings: one option for each field of ``Settings`` and of ``Shape``."""
    parser = argparse.ArgumentParser(
        "python -m luthier.starter.pretrain",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--text", type=Path, required=True, help="folder of .txt and .jsonl files, xz or plain")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to, and to continue from")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of each process (0: torch decides)")
    parser.add_argument("--stop-after", type=int, default=0, help="stop after this step; start again to continue")
    for kind in (Settings, Shape):
        for item in fields(kind):
            flag, about = "--" + item.name.replace("_", "-"), HELP.get(item.name, "")
            if isinstance(item.default, bool):
                parser.add_argument(flag, action="store_true", help=about)
            elif isinstance(item.default, int | float):
                about = f"{about} (default {item.default})"
                parser.add_argument(flag, type=type(item.default), default=item.default, help=about)
    known = parser.parse_args(arguments)
    given = vars(known)
    shape = Shape(**{item.name: given[item.name] for item in fields(Shape)})
    own = {item.name: given[item.name] for item in fields(Settings) if item.name != "shape"}
    return known, Settings(**own, shape=shape)
