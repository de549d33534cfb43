"""What tuning cost elsewhere: base and tuned on general text, and on the test rows of an earlier run.

Catastrophic forgetting (McCloskey and Cohen 1989; of tuned language models Luo et al. 2023, arXiv:2308.08747) shows
first in the likelihood of ordinary text. The perplexity of both models on the same passages is compared like every
other metric, paired by passage. The two comparisons are corrected for their number and stand apart from
comparison.json: they stand beside the verdict in the report and never make it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from luthier.evaluate.compare import compare
from luthier.evaluate.measured import Measured

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from luthier.models.engines import TransformersAnswerer

GENERAL, EARLIER = "general_text", "earlier_test_rows"
Pair = tuple[Sequence[int], Sequence[int]]  # token ids, and their labels


@dataclass(frozen=True)
class Probes:
    """What both models read.

    Attributes:
        general: the passages of general text. earlier: test rows of an earlier run, with their ids and groups.
        earlier_run: its id, "" where there is none.
    """

    general: Sequence[Pair]
    earlier: Sequence[tuple[str, str | None, Pair]] = ()
    earlier_run: str = ""


def passages() -> list[str]:
    """Return the passages of general English that ship with Luthier, written for this."""
    text = files("luthier.evaluate.general").joinpath("passages.txt").read_text(encoding="utf-8")
    return [passage.strip() for passage in text.split("\n\n") if passage.strip()]


def read_passages(tokenizer: PreTrainedTokenizerBase, context: int | None) -> list[Pair]:
    """Return the passages as token ids and labels, all tokens counted, cut where the model's context ends."""
    pairs: list[Pair] = []
    for passage in passages():
        ids = list(tokenizer(passage)["input_ids"])[: context or None]
        pairs.append((ids, ids))
    return pairs


def losses(answerer: TransformersAnswerer, probes: Probes) -> dict[str, list[float]]:
    """Return the mean −log p of each passage and each earlier row, in nats per token."""
    found: dict[str, list[float]] = {}
    for name, pairs in ((GENERAL, list(probes.general)), (EARLIER, [pair for _, _, pair in probes.earlier])):
        if pairs:
            found[name] = [total / max(tokens, 1) for total, tokens in answerer.log_loss(pairs)]
    return found


def judge(
    base: Mapping[str, Sequence[float]], tuned: Mapping[str, Sequence[float]], probes: Probes, seed: int
) -> dict[str, Any]:
    """Compare the losses of base and tuned.

    Returns:
        forgetting.json: `verdict` ("forgotten": perplexity rose on one of them; "not forgotten" where the test could
        have shown a rise of a tenth; "not seen" else), `sentence`, `earlier_run`, and `metrics`: an entry as in
        comparison.json, in perplexity, for general_text and, where there is an earlier run, earlier_test_rows.
    """
    groups = {GENERAL: None, EARLIER: [group or name for name, group, _ in probes.earlier]}
    titles = {GENERAL: "Perplexity of general text", EARLIER: f"Perplexity of run {probes.earlier_run}'s test rows"}
    measured = {
        name: Measured(titles[name], base[name], tuned[name], groups[name], higher_is_better=False, logarithmic=True)
        for name in base
    }
    compared = compare(measured, GENERAL, seed)
    entries = compared["metrics"]
    worse = [titles[name] for name, entry in entries.items() if entry["verdict"] == "worse"]
    general = entries[GENERAL]
    seen = general["minimum_detectable"] is not None and general["minimum_detectable"] <= 0.1 * general["base"]
    verdict = "forgotten" if worse else "not forgotten" if seen else "not seen"
    return {
        "verdict": verdict,
        "sentence": " ".join(str(entry["sentence"]) for entry in entries.values()),
        "earlier_run": probes.earlier_run or None,
        "passages": len(probes.general),
        "metrics": entries,
    }
