"""What stands beside the verdict: text that may have been forgotten, and what was exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.report.content import Block, Note, Section, Table
from luthier.report.figures import Tone
from luthier.report.words import NOTHING, capped, listed, many, number, worded

Line = Mapping[str, Any]
FORGETTING: dict[str, Tone] = {"forgotten": "bad", "not forgotten": "good"}
SHOWN_ELSE = frozenset({"passed", "texts"})  # of an entry of verify.json
READ = {"general_text": "general text", "earlier_test_rows": "test rows of an earlier run"}
FINDINGS = {
    "forgotten": "Something was forgotten: the tuned model reads other text worse than its base does.",
    "not forgotten": "Nothing was forgotten that this test could see, and it would have seen a tenth more perplexity.",
    "not seen": "Nothing was seen to be forgotten, but the test is too small to have seen it.",
}


def forgetting_section(found: Line) -> Section:
    """Return what tuning cost on other text, from forgetting.json."""
    rows = [[capped(READ.get(name, worded(name)), 60), *_figures(entry)] for name, entry in found["metrics"].items()]
    passages = many(found["passages"], "passage")
    caption = f"Perplexity, lower is better; general text: {passages} that ship with Luthier."
    if found.get("earlier_run"):
        caption += f" The earlier run is {found['earlier_run']}."
    caption += " Corrected together, and apart from the verdict, which they do not make."
    headers = ("text", "base", "tuned", "difference", "95 % interval", "p corrected", "verdict")
    blocks: list[Block] = [
        Note(str(found["sentence"]), FORGETTING.get(found["verdict"], ""), key=True),
        Table(headers, rows, caption, frozenset({1, 2, 3, 4, 5})),
    ]
    finding = FINDINGS.get(found["verdict"], str(found["verdict"]))
    return Section("forgetting", "What did it cost elsewhere?", finding, blocks)


def export_section(verified: Line) -> Section | None:
    """Return what was exported and how far it is from what was trained, from verify.json; None where nothing was."""
    if not verified:
        return None
    failed = [worded(name) for name, one in verified.items() if not one["passed"]]
    if failed:
        finding = f"Do not use {listed(failed, 4)}: what it answers is not what the trained model answers."
    else:
        names, answer = listed([worded(name) for name in verified], 4), "answers" if len(verified) == 1 else "answer"
        finding = f"Loaded by the libraries that users have, {names} {answer} as the trained model does."
    rows = [
        (
            worded(name),
            "yes" if one["passed"] else "NO",
            f"{one['texts']:,}" if "texts" in one else NOTHING,
            ", ".join(f"{worded(key)} {_measured(value)}" for key, value in one.items() if key not in SHOWN_ELSE),
        )
        for name, one in verified.items()
    ]
    headers = ("export", "passed", "texts compared", "measured")
    caption = "Each export was loaded again and asked the same texts as the model that was trained."
    table = Table(headers, rows, caption, frozenset({2}), frozenset({3}))
    return Section("export", "Is what was exported what was trained?", finding, [table])


def _figures(entry: Line) -> list[str]:
    low, high = entry["ci95"] or (None, None)
    return [
        number(entry["base"]),
        number(entry["tuned"]),
        number(entry["difference"], "+"),
        NOTHING if low is None else f"{number(low, '+')} to {number(high, '+')}",
        NOTHING if entry["p_adjusted"] is None else f"{entry['p_adjusted']:.4f}",
        str(entry["verdict"]),
    ]


def _measured(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if not isinstance(value, int | float):
        return capped(str(value), 60)
    return f"{value:.7g}" if abs(value) > 0.9 else f"{value:.3g}"  # of a cosine the last digits count
