"""Make a starter from a folder of text.

    python -m luthier.starter.pretrain --text FOLDER --out FOLDER --minutes 120

The out folder receives ``tokenizer/``, ``config.json`` (what was asked), ``log.jsonl`` (one line every few steps),
``checkpoint.pt`` (replaced as a whole every few minutes) and at the end ``model/``, a plain transformers folder.
Started again with the same arguments, a run continues from its checkpoint. On a CPU of N cores, put
``torch.distributed.run --nproc-per-node N -m`` after ``-m``: processes of one thread each are faster than one of N.
"""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from luthier.starter import group
from luthier.starter.export import export_model
from luthier.starter.packing import Packer, encode_documents, encode_exchanges
from luthier.starter.run import CHANGEABLE, Run
from luthier.starter.settings import Settings, parse
from luthier.starter.text import Corpus, read_corpus, texts
from luthier.starter.tokenizer import train_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def note(path: Path, **values: Any) -> None:
    """Append one line to the log and show it."""
    if group.rank():
        return
    line = json.dumps({name: round(value, 5) if isinstance(value, float) else value for name, value in values.items()})
    with path.open("a", encoding="utf-8") as log:
        log.write(line + "\n")
    print(line, flush=True)


def train(run: Run, out: Path, stop_after: int = 0) -> None:
    """Run to the end, or to step ``stop_after`` (as a kill would, but just after a checkpoint)."""
    settings, progress, log = run.settings, run.progress, out / "log.jsonl"
    recent: deque[float] = deque(maxlen=50)
    saved = time.monotonic()
    while not progress.finished:
        if progress.decide(settings, sum(recent) / max(1, len(recent))):
            note(
                log,
                step=progress.step,
                decided_steps=progress.steps,
                decay_steps=progress.decay,
                last_steps=progress.last,
            )
        start = time.monotonic()
        values = run.step()
        recent.append(group.from_first(time.monotonic() - start, run.device))
        due = progress.step % settings.evaluate_every == 0 or progress.finished
        if due:
            values |= run.measure()
        progress.seconds += group.from_first(time.monotonic() - start, run.device)
        if due or progress.step % settings.log_every == 0:
            speed = round(settings.batch_tokens * len(recent) / sum(recent))
            where = {"step": progress.step, "tokens": progress.tokens, "seconds": round(progress.seconds, 1)}
            note(log, **where, tokens_per_second=speed, **values)
        stop = progress.step == stop_after
        if stop or progress.finished or time.monotonic() - saved > settings.checkpoint_minutes * 60:
            if group.rank() == 0:
                run.save(out / "checkpoint.pt")
            saved = time.monotonic()
        if stop:
            return


def load_tokenizer(corpus: Corpus, settings: Settings, folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in the folder; trained on the corpus and saved there first where there is none."""
    from transformers import PreTrainedTokenizerFast

    if group.rank() == 0 and not (folder / "tokenizer.json").exists():
        shape = settings.shape
        train_tokenizer(texts(corpus), shape.vocabulary, shape.context).save_pretrained(folder)
    group.wait()
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer


def prepare(settings: Settings, text: Path, out: Path) -> tuple[Run, PreTrainedTokenizerFast]:
    """Read and split the text, get the tokenizer, build the run."""
    corpus = read_corpus(text, settings.hold_out)
    tokenizer = load_tokenizer(corpus, settings, out / "tokenizer")
    documents = encode_documents(tokenizer, corpus.train)
    chats = encode_exchanges(tokenizer, corpus.train_exchanges, settings.longest_chat)
    held_out = encode_documents(tokenizer, corpus.held_out)
    if not documents or not held_out:
        raise SystemExit(f"{text}: {len(documents)} documents to train on, {len(held_out)} held out: too few")
    size = sum(len(document.text.encode()) for document in corpus.held_out)
    bytes_per_token = size / sum(len(row) - 2 for row in held_out)
    return Run(settings, Packer(documents, chats, settings.seed), Packer(held_out, [], 0), bytes_per_token), tokenizer


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    known, settings = parse(arguments, __doc__ or "")
    out: Path = known.out
    if known.threads:
        torch.set_num_threads(known.threads)
    group.join()
    out.mkdir(parents=True, exist_ok=True)
    run, tokenizer = prepare(settings, known.text, out)
    resumed = run.restore(out / "checkpoint.pt")
    if group.rank() == 0:
        (out / "config.json").write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")
        count = sum(weight.numel() for weight in run.network.parameters())
        print(f"{count:,} parameters, {run.dtype} on {run.device} × {group.size()}, resumed: {resumed}", flush=True)
        changeable = {name: value for name, value in asdict(settings).items() if name in CHANGEABLE}
        note(out / "log.jsonl", started_at_step=run.progress.step, **changeable)
    train(run, out, known.stop_after)
    if run.progress.finished and group.rank() == 0:
        export_model(run.network, tokenizer, out / "model")
    group.leave()


if __name__ == "__main__":
    main()
