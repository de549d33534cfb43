"""What stands beside the verdict: text that may have been forgotten, a judge's opinion, and what was exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.report.content import Block, Note, Section, Table
from luthier.report.figures import Tone
from luthier.report.words import NOTHING, capped, listed, many, number, percent, worded

Line = Mapping[str, Any]
FORGETTING: dict[str, Tone] = {"forgotten": "bad", "not forgotten": "good"}
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


def judge_section(found: Line) -> Section:
    """Return a judge's opinion, from judge.json."""
    pairs, names = found["pairs"], list(found["criteria"])
    blocks: list[Block] = [
        Note(
            f"This is the opinion of a model, {capped(str(found['model']), 80)}, and no measurement: it has no part in "
            f"the verdict. It saw {many(pairs['put'], 'pair')} of answers without knowing whose they were, each in both "
            f"orders, and judged {pairs['judged']:,} of them in a way that could be used.",
            key=True,
        )
    ]
    if found["metrics"]:
        rows = [[_opinion(name), *_figures(entry)] for name, entry in found["metrics"].items()]
        caption = "Preference: 1 where tuned was preferred in both orders, 0 where base was, ½ else. Criteria: 0 to 10."
        headers = ("opinion", "base", "tuned", "difference", "95 % interval", "p corrected", "verdict")
        blocks.append(Table(headers, rows, caption, frozenset({1, 2, 3, 4, 5})))
    blocks += [_trust(found)]
    unusable = found["answers"]["unusable"]
    if unusable:
        told = listed([f"{capped(str(why), 60)} {count:,}" for why, count in unusable.items()], 6)
        blocks.append(Note(f"Answers of the judge that could not be used: {told}.", "warn"))
    asked = [(capped(name, 40), capped(str(found["criteria"][name]), 200)) for name in names]
    blocks += (
        [Table(("criterion", "what an answer that earns 10 does"), asked, "", prose=frozenset({1}))] if asked else []
    )
    return Section("judge", "What does a judge think?", str(found["sentence"]), blocks)


def export_section(verified: Line) -> Section | None:
    """Return what was exported and how far it is from what was trained, from verify.json; None where nothing was."""
    if not verified:
        return None
    passed = [name for name, one in verified.items() if one["passed"]]
    rows = [
        (
            worded(name),
            "yes" if one["passed"] else "NO",
            f"{one['texts']:,}" if "texts" in one else NOTHING,
            listed([f"{worded(key)} {_measured(value)}" for key, value in one.items() if key not in SHOWN_ELSE], 8)
            if set(one) - SHOWN_ELSE
            else NOTHING,
        )
        for name, one in verified.items()
    ]
    failed = [name for name in verified if name not in passed]
    finding = (
        f"Do not use {listed([worded(name) for name in failed], 4)}: it does not answer as the trained model does."
        if failed
        else f"{listed([worded(name).capitalize() for name in passed], 4)} answer as the trained model does, "
        "read again by the libraries that users have."
    )
    headers = ("export", "passed", "texts compared", "measured")
    caption = "Each export was loaded again and asked the same texts as the model that was trained."
    table = Table(headers, rows, caption, frozenset({2}), frozenset({3}))
    return Section("export", "Is what leaves the workbench what was trained?", finding, [table])


SHOWN_ELSE = frozenset({"passed", "texts"})


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


def _opinion(name: str) -> str:
    return capped(name.removeprefix("criterion: "), 40)


def _trust(found: Line) -> Table:
    """Return how far the judge can be relied on: does it agree with itself, and does it favour a place?"""
    position = found["position"]
    rows = [
        ("same preference in both orders", percent(found["agreement"])),
        ("first place preferred", f"{position['first']:,}"),
        ("second place preferred", f"{position['second']:,}"),
        ("no preference", f"{position['tie']:,}"),
        ("bias to the first place, −1 to 1", number(position["bias"], "+", 2)),
        ("p of the bias", NOTHING if position["p"] is None else f"{position['p']:.2g}"),
    ]
    rows += [
        (f"{capped(name, 40)}: change with the order", number(value, "", 2))
        for name, value in found["score_shift"].items()
    ]
    return Table(("how far the judge can be relied on", ""), rows, "", frozenset({1}))


def _measured(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.7g}" if isinstance(value, int | float) else capped(str(value), 60)
