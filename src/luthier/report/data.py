"""The part of the report about the data: the funnel, the splits, what they share, lengths and terms."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from luthier.data.rows import SPLITS
from luthier.report.content import Block, Note, Passage, Picture, Section, Table
from luthier.report.escape import shortened
from luthier.report.figures import Bars, Funnel, Step
from luthier.report.words import capped, listed

EXAMPLES = 3
FILES_SHOWN = 4
REASONS_SHOWN = 8
STRATA_SHOWN = 20
VALUES_SHOWN = 20
TEXT_SHOWN = 600


def data_section(report: Mapping[str, Any]) -> Section:
    """Return the section from 1-data/report.json."""
    rows = report["rows"]
    finding = (
        f"Of {rows['found']:,} rows found, {rows['rejected']:,} were rejected; the rest fell into "
        f"{report['split']['groups']:,} groups, none of which stands on two sides."
    )
    blocks: list[Block] = [_funnel(report), _files(report)]
    blocks += [Note(f"Warning: {warning}", "warn") for warning in report["warnings"]]
    blocks += [*_splits(report), *_overlap(report), *_statistics(report), *_made(report), *_contradictions(report)]
    return Section("data", "What was it taught?", finding, blocks)


def truncation_sentence(statistics: Mapping[str, Any]) -> str:
    """Say how many rows are longer than max_length."""
    everything = statistics["splits"]["all"]
    cut, share = everything["truncation"]["rows"], everything["truncation"]["share"]
    estimated = " (tokens estimated from characters)" if statistics["tokens_estimated"] else ""
    if not cut:
        return f"No row is longer than {statistics['max_length']} tokens{estimated}."
    return f"{cut:,} rows ({share:.1%}) are longer than {statistics['max_length']} tokens{estimated}."


def _funnel(report: Mapping[str, Any]) -> Picture:
    rows, reasons = report["rows"], list(report["rejected"].items())
    steps = [Step("found in the files", rows["found"])]
    steps += [Step(f"rejected: {reason}", count, "lost") for reason, count in reasons[:REASONS_SHOWN]]
    rest = sum(count for _, count in reasons[REASONS_SHOWN:])
    steps += [Step("rejected: other reasons", rest, "lost")] if rest else []
    steps += [Step("made from them, to train on", rows["augmented"], "added")] if rows["augmented"] else []
    steps += [Step("in the splits", sum(rows[name] for name in SPLITS))]
    steps += [Step(name, rows[name], "part") for name in SPLITS]
    lost = f"{rows['rejected']:,} of them rejected" if rows["rejected"] else "none rejected"
    title = f"{rows['found']:,} rows found, {lost}; {rows['train']:,} train and {rows['test']:,} test"
    return Picture(Funnel("funnel", title, steps), key=True)


def _files(report: Mapping[str, Any]) -> Note:
    names = [capped(str(file["file"]).replace("\\", "/").rsplit("/", 1)[-1], 60) for file in report["files"]]
    return Note(f"From {listed(names, FILES_SHOWN)}, read as {report['format']}." if names else "From no file.")


def _splits(report: Mapping[str, Any]) -> list[Block]:
    split = report["split"]
    lines = []
    strata = sorted(split["strata"], key=lambda stratum: -stratum["rows"])
    for stratum in [*strata[:STRATA_SHOWN], split["overall"]]:
        cells = [capped(str(stratum["name"]), 50), f"{stratum['groups']:,}"]
        for name in SPLITS:
            portion = stratum["portions"][name]
            cells.append(f"{portion['rows']:,} ({portion['share']:.1%})")
        worst = max((abs(portion["deviation"]) for portion in stratum["portions"].values()), default=0.0)
        lines.append([*cells, f"{worst:.1f}"])
    caption = "Rows before augmentation. The last column is the largest deviation from the wanted share, in points."
    if len(strata) > STRATA_SHOWN:
        caption += f" The {STRATA_SHOWN} largest of {len(strata):,} strata are shown."
    headers = ("", "groups", *SPLITS, "deviation")
    return [Table(headers, lines, caption, frozenset({1, 2, 3, 4, 5}))]


def _overlap(report: Mapping[str, Any]) -> list[Block]:
    overlap = report["overlap"]
    lines, passages = [], []
    for pair in overlap["pairs"]:
        near, ngram = pair["near"], pair["ngram"]
        lines.append(
            (
                f"{pair['held_out']} in {pair['reference']}",
                f"{pair['held_out_rows']:,}",
                f"{pair['exact_question']['rows']:,}",
                f"{pair['exact_whole']['rows']:,}",
                "off" if near is None else f"{near['rows']:,}",
                f"{ngram['rows']:,}",
                "–" if ngram["largest"] is None else f"{ngram['largest']:.0%}",
                f"{pair['group']['rows']:,}",
            )
        )
        for way in ("near", "ngram"):
            passages += [_example(pair, way, one) for one in (pair[way] or {}).get("examples", [])[:EXAMPLES]]
    headers = ("held out", "rows", "same question", "same text", "near", "n-grams", "most n-grams", "group astride")
    caption = (
        f"Rows of one split found in another: equal, near-duplicate (Jaccard {overlap['near_threshold']} or more), or "
        f"with {overlap['leak_threshold']:.0%} or more of their {overlap['ngram']}-word sequences found there."
    )
    told: list[Block] = [Note(leak, "bad") for leak in report["leaks"]]
    told = told or [Note("No row of one split was found again in another.", "good")]
    return [Table(headers, lines, caption, frozenset(range(1, 8))), *told, *passages]


def _example(pair: Mapping[str, Any], way: str, example: Mapping[str, Any]) -> Passage:
    words = {"near": "near-duplicates", "ngram": "shared word sequences"}[way]
    title = f"{pair['held_out']} and {pair['reference']}: {words}, {example['similarity']:.0%}"
    found = shortened(str(example["found_in_text"]), TEXT_SHOWN)
    answers = [(capped(f"{pair['reference']}: {example['found_in_id']}", 80), found)]
    return Passage(title, shortened(f"{example['held_out_id']}: {example['held_out_text']}", TEXT_SHOWN), answers)


def _statistics(report: Mapping[str, Any]) -> list[Block]:
    statistics = report["statistics"]
    lines = []
    for name in (*SPLITS, "all"):
        one = statistics["splits"][name]
        cells = [name, f"{one['rows']:,}"]
        for text in ("question", "answer"):
            cells += [f"{one['characters'][text]['mean']:.1f}", f"{one['characters'][text]['max']:,}"]
        tokens, terms = one["tokens"]["whole"], one["terms"]
        cells += [f"{tokens['median']:.0f}", f"{tokens['p95']:.0f}", f"{tokens['max']:,}"]
        cells += [f"{terms['per_question']:.2f}", f"{terms['per_100_answer_words']:.1f}"]
        lines.append(cells)
    headers = (
        *("split", "rows", "question mean", "max", "answer mean", "max"),
        *("tokens median", "p95", "max", "terms a question", "terms in 100 words"),
    )
    caption = (
        f"Questions and answers in characters, rows in tokens. {truncation_sentence(statistics)} Terms are those of "
        f"the recipe's list ({statistics['term_list']:,} terms)."
    )
    blocks: list[Block] = [Table(headers, lines, caption, frozenset(range(1, 11)))]
    edges = statistics["histogram_edges"]["whole_tokens"]
    counts = statistics["splits"]["all"]["histograms"]["whole_tokens"]
    names = [f"{low:.0f}–{high:.0f}" for low, high in pairwise(edges)] + [f"{edges[-1]:.0f} or more"]
    filled = [place for place, count in enumerate(counts) if count]
    if filled:
        span = slice(filled[0], filled[-1] + 1)
        tokens = statistics["splits"]["all"]["tokens"]["whole"]
        title = (
            f"Half of the rows have {tokens['median']:,.0f} tokens or fewer, one in twenty {tokens['p95']:,.0f} or more"
        )
        rows = [(f"{name} tokens", float(count)) for name, count in zip(names[span], counts[span], strict=True)]
        blocks.append(Picture(Bars("row-lengths", title, rows)))
    return [*blocks, *_coverage(statistics)]


def _coverage(statistics: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    for what, word in (("topics", "topic"), ("difficulty", "difficulty")):
        found = statistics["splits"]["all"][what]
        if len(found) > 1:
            rows = sorted(((str(name), one["rows"]) for name, one in found.items()), key=lambda row: -row[1])
            rows = sorted(rows) if what == "difficulty" else rows
            most, least = max(rows, key=lambda row: row[1]), min(rows, key=lambda row: row[1])
            title = (
                f"By {word}, rows go from {least[1]:,} ({capped(least[0], 30)}) to {most[1]:,} ({capped(most[0], 30)})"
            )
            blocks.append(Picture(Bars(f"rows-by-{word}", title, rows[:VALUES_SHOWN])))
            if len(rows) > VALUES_SHOWN:
                blocks.append(Note(f"The {VALUES_SHOWN} largest of {len(rows):,} are shown."))
    return blocks


def _made(report: Mapping[str, Any]) -> list[Block]:
    """Return how various the rows are that augmentation made, category by category, and why others were refused."""
    made = report.get("augmentation")
    if not made:
        return []
    blocks: list[Block] = []
    if made.get("categories"):
        keys = ("distinct_1", "distinct_2", "similarity_to_source", "similarity_to_each_other")
        rows = [
            (capped(str(name).replace("_", " "), 40), f"{one['variations']:,.0f}", *(f"{one[key]:.2f}" for key in keys))
            for name, one in made["categories"].items()
        ]
        headers = ("made by", "rows", "distinct words", "distinct pairs", "like their source", "like each other")
        caption = (
            "How various the rows are that augmentation made: the share of different words and pairs of words among "
            "all, and the mean similarity, 0 to 1, of a row to its source and to others of its category."
        )
        blocks.append(Table(headers, rows, caption, frozenset({1, 2, 3, 4, 5})))
    if made.get("refused"):
        refused = sorted(made["refused"].items(), key=lambda one: -one[1])
        told = listed([f"{capped(str(reason), 60)} {count:,}" for reason, count in refused], REASONS_SHOWN)
        blocks.append(Note(f"Made by augmentation and not taken: {told}."))
    return blocks


def _contradictions(report: Mapping[str, Any]) -> list[Block]:
    contradictions = report["contradictions"]
    if not contradictions["count"]:
        return []
    blocks: list[Block] = [
        Note(f"{contradictions['count']:,} questions have different answers. Only you know which is right.", "warn")
    ]
    for one in contradictions["shown"][:EXAMPLES]:
        texts = [shortened(str(answer), TEXT_SHOWN) for answer in one["answers"][:EXAMPLES]]
        answers = [(capped(str(place), 80), text) for place, text in zip(one["places"], texts, strict=False)]
        blocks.append(Passage("one question, different answers", shortened(one["question"], TEXT_SHOWN), answers))
    return blocks
