"""Evidence by retrieval: base and tuned search the same corpus with the same queries, scored query by query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luthier.data.rows import Row
from luthier.errors import UserError
from luthier.evaluate.compare import compare
from luthier.evaluate.evidence import Asked, Gathered
from luthier.evaluate.measured import Measured, of_seeds
from luthier.evaluate.ranking import RANKED, TITLES, Ranks, geometry, ranks_of_relevant, spearman_parts
from luthier.evaluate.scoring import Scored
from luthier.evaluate.trials import Query, Trial, among_titles, held_out
from luthier.models.vectors import Embedder, Vectors, fingerprint, keep, kept, nearest
from luthier.run.progress import Progress

SHOWN = 10  # texts found that an answer lists
SHOWN_RANKS = 100
SHOWN_RELEVANT = 5
PAIRS = 20_000  # of texts that belong together, in the alignment
CASED = 300  # queries that are read in capitals and in small letters too
BOTH = ("base", "tuned")


@dataclass
class Values:
    """One metric, item by item: ids and groups of the items, and who scores what."""

    ids: list[str] = field(default_factory=list)
    groups: list[str | None] = field(default_factory=list)
    by: dict[str, list[float]] = field(default_factory=dict)


class Found:
    """The vectors of base and tuned, and of further seeds, of every text that is measured.

    Args:
        texts: distinct ones. vectors: by who, [texts, dimensions]; base first, then tuned.
    """

    def __init__(self, texts: Sequence[str], vectors: Mapping[str, Vectors]) -> None:
        self._place = {text: at for at, text in enumerate(texts)}
        self._vectors = vectors
        self.sides = tuple(vectors)

    def of(self, who: str, texts: Sequence[str]) -> Vectors:
        """Return the vectors of texts, in order."""
        return self._vectors[who][[self._place[text] for text in texts]]


def gather(asked: Asked, progress: Progress) -> Gathered:
    """Search the held-out texts with base and tuned, with those of further seeds too, and score them.

    Raises:
        UserError: the test rows hold no query with something to be found, and no scored pair.
    """
    trial = held_out(asked.test)
    trained, known = _known(asked)
    scored_rows = [row for row in asked.test if row.content.get("score") is not None]
    triplets = [row for row in asked.test if row.form == "triplet"]
    texts = _texts([one for one in (trial, known) if one], [*scored_rows, *triplets])
    if not (trial and trial.queries) and not scored_rows:
        raise UserError(
            "The test split has nothing to search for: no title has another one of its family there.",
            "data.split.test",
            "Give the test split a larger share, families of two titles or more, or pairs.",
        )
    found = _vectors(asked, texts, progress)
    values: dict[str, Values] = {}
    answers: dict[str, list[dict[str, Any]]] = {who: [] for who in (asked.baseline, *asked.adapters)}
    if trial and trial.queries:
        ranks = {who: _ranks(trial, found, who) for who in found.sides}
        values |= _ranked(trial.queries, ranks)
        for who, name in zip(found.sides, answers, strict=True):
            answers[name] += _lines(trial, found, who, ranks[who])
    if triplets:
        values["triplet_accuracy"] = _accuracy(triplets, found)
    if scored_rows:
        values["spearman"] = _correlated(scored_rows, found)
        for who, name in zip(found.sides, answers, strict=True):
            answers[name] += _scored_lines(scored_rows, found, who)
    scored = _scored(values, asked)
    metrics = scored.metrics | {
        "corpus": len(trial.corpus) if trial else 0,
        "titles_alone": trial.alone if trial else 0,
        "geometry": {who: _geometry(trial, scored_rows, found, who) for who in BOTH},
        "sensitivity": _sensitivity(trial, found) if trial else None,
        "known_families": _known_figures(known, trained, found, asked) if known else None,
    }
    return Gathered(answers, Scored(scored.lines, metrics, scored.measured, scored.primary), lambda: None)


def _known(asked: Asked) -> tuple[int, Trial | None]:
    """Return the trial of the titles that training held back, among those that it was trained on."""
    if not any(row.form == "title" for row in asked.test):
        return 0, None
    trained, _ = asked.kind.rows.trained_on(asked.train)
    kept_rows = {row.id for row in trained}
    away = [row for row in asked.train if row.id not in kept_rows and row.made_from is None]
    trial = among_titles(away, trained) if away else None
    return len(trained), trial if trial and trial.queries else None


def _texts(trials: Sequence[Trial], rows: Sequence[Row]) -> list[str]:
    texts: dict[str, None] = {}
    for trial in trials:
        texts |= dict.fromkeys(trial.corpus) | dict.fromkeys(query.text for query in trial.queries)
    texts |= dict.fromkeys(str(text) for row in rows for text in row.content["texts"])
    cased = dict.fromkeys(
        form for trial in trials[:1] for text in _sample(trial) for form in (text.upper(), text.lower())
    )
    return list(texts | cased)


def _sample(trial: Trial) -> list[str]:
    return [query.text for query in trial.queries[:CASED]]


def _sensitivity(trial: Trial, found: Found) -> dict[str, Any]:
    """Return the mean similarity of queries to themselves in capitals and in small letters, by who reads them."""
    told: dict[str, Any] = {}
    texts = _sample(trial)
    for who in BOTH if texts else ():
        plain = found.of(who, texts)
        told[who] = {
            "upper_case": float((plain * found.of(who, [text.upper() for text in texts])).sum(1).mean()),
            "lower_case": float((plain * found.of(who, [text.lower() for text in texts])).sum(1).mean()),
        }
    return told


def _vectors(asked: Asked, texts: Sequence[str], progress: Progress) -> Found:
    """Return the vectors of base, tuned and further seeds; those that a killed attempt has made are taken over."""
    from luthier.models.pair import Pair
    from luthier.run.manifest import digest_code, digest_value

    kind = asked.kind
    tokenizer, _ = kind.model.load_tokenizer(asked.base)
    pair = Pair(lambda: kind.model.load_base(asked.base, asked.dtype, asked.method), asked.adapters["tuned"])
    code = [digest_code(part) for part in ("models/vectors.py", "models/sentence.py")]
    mark = digest_value([list(asked.identity), asked.max_length, code])
    vectors: dict[str, Vectors] = {}
    lent = {"base": pair.base()} | {who: pair.tuned(folder) for who, folder in asked.adapters.items()}
    for who, model_of in lent.items():
        one = fingerprint([who, mark], texts)
        there = kept(asked.vectors, f"evaluate-{who}", one)
        if there is None:
            with model_of as model:
                embedder: Embedder = kind.model.embedder(model, asked.base, tokenizer, asked.max_length)
                there = embedder.embed(texts, progress, f"vectors of {who}")
            keep(asked.vectors, f"evaluate-{who}", one, there)
        vectors[who] = there
    return Found(texts, vectors)


def _ranks(trial: Trial, found: Found, who: str) -> list[list[int]]:
    queries = found.of(who, [query.text for query in trial.queries])
    relevant, own = [query.relevant for query in trial.queries], [query.own for query in trial.queries]
    return ranks_of_relevant(queries, found.of(who, trial.corpus), relevant, own)


def _ranked(queries: Sequence[Query], ranks: Mapping[str, Sequence[Ranks]]) -> dict[str, Values]:
    ids, groups = [query.id for query in queries], [query.group for query in queries]
    return {
        name: Values(ids, groups, {who: [measure(one) for one in there] for who, there in ranks.items()})
        for name, (_, measure) in RANKED.items()
    }


def _accuracy(rows: Sequence[Row], found: Found) -> Values:
    """Return whether the positive of each triplet is nearer than all its negatives, 0 or 1."""
    values = Values([row.id for row in rows], [row.group for row in rows])
    for who in found.sides:
        values.by[who] = []
        for row in rows:
            anchor, positive, *negatives = found.of(who, [str(text) for text in row.content["texts"]])
            values.by[who].append(float(all(anchor @ positive > anchor @ negative for negative in negatives)))
    return values


def _correlated(rows: Sequence[Row], found: Found) -> Values:
    scores = [float(row.content["score"]) for row in rows]
    by = {who: spearman_parts(_similarities(rows, found, who), scores) for who in found.sides}
    return Values([row.id for row in rows], [row.group for row in rows], by)


def _similarities(rows: Sequence[Row], found: Found, who: str) -> list[float]:
    left, right = (found.of(who, [str(row.content["texts"][side]) for row in rows]) for side in (0, 1))
    similar: list[float] = (left * right).sum(1).tolist()
    return similar


def _scored(values: Mapping[str, Values], asked: Asked) -> Scored:
    higher = asked.kind.higher_is_better
    names = [name for name in asked.metrics if name in values]
    if not names:
        known = ", ".join(values)
        raise UserError("None of the metrics asked for can be measured on these rows.", "evaluation.metrics", known)
    primary = asked.primary if asked.primary in names else names[0]
    measured = {name: _measured(TITLES[name], values[name], higher[name]) for name in names}
    lines = [line for name in names for line in _score_lines(name, values[name], name == primary)]
    flips = {flip: sum(line.get("flip") == flip for line in lines) for flip in ("won", "lost", "tie")}
    metrics = {
        "primary": primary,
        "items": len(values[primary].ids),
        "flips": flips,
        "metrics": {name: {who: _mean(name, values[name], who) for who in BOTH} for name in names},
    }
    return Scored(lines, metrics, measured, primary)


def _measured(title: str, values: Values, higher: bool) -> Measured:
    base, *tuned = values.by.values()
    if len(tuned) > 1:
        return of_seeds(title, [base], tuned, values.groups, higher)
    return Measured(title, base, tuned[0], values.groups, higher)


def _score_lines(name: str, values: Values, primary: bool) -> list[dict[str, Any]]:
    lines = []
    for item, before, after, *others in zip(values.ids, *values.by.values(), strict=True):
        line: dict[str, Any] = {
            "id": item,
            "metric": name,
            "base": before,
            "tuned": after,
            "difference": after - before,
            "base_details": {},
            "tuned_details": {},
        }
        if others:
            line["tuned_seeds"] = [after, *others]
        if primary:
            line["flip"] = "tie" if after == before else "won" if after > before else "lost"
        lines.append(line)
    return lines


def _mean(name: str, values: Values, who: str) -> dict[str, Any]:
    return {"title": TITLES[name], "value": float(np.mean(values.by[who])), "items": len(values.ids)}


def _lines(trial: Trial, found: Found, who: str, ranks: Sequence[Ranks]) -> list[dict[str, Any]]:
    """Return the lines of answers-*.jsonl: what each query found, and where what it should find stands."""
    queries = found.of(who, [query.text for query in trial.queries])
    places, similar = nearest(queries, found.of(who, trial.corpus), SHOWN, [query.own for query in trial.queries])
    lines = []
    for number, query in enumerate(trial.queries):
        relevant = set(query.relevant)
        retrieved = [
            {
                "id": trial.ids[at],
                "text": trial.corpus[at],
                "families": list(trial.families[at]),
                "similarity": round(float(value), 6),
                "relevant": at in relevant,
            }
            for at, value in zip(places[number].tolist(), similar[number], strict=True)
            if np.isfinite(value)
        ]
        lines.append(
            {
                "id": query.id,
                "group": query.group,
                "question": query.text,
                "reference": "; ".join(trial.corpus[at] for at in query.relevant[:SHOWN_RELEVANT]),
                "answer": retrieved[0]["text"] if retrieved else None,
                "retrieved": retrieved,
                "relevant": len(query.relevant),
                "ranks": list(ranks[number][:SHOWN_RANKS]),
                "labels": query.labels,
                "error": "",
            }
        )
    return lines


def _scored_lines(rows: Sequence[Row], found: Found, who: str) -> list[dict[str, Any]]:
    return [
        {
            "id": row.id,
            "group": row.group,
            "question": str(row.content["texts"][0]),
            "reference": str(row.content["texts"][1]),
            "answer": None,
            "similarity": round(similar, 6),
            "score": float(row.content["score"]),
            "labels": row.labels,
            "error": "",
        }
        for row, similar in zip(rows, _similarities(rows, found, who), strict=True)
    ]


def _geometry(trial: Trial | None, rows: Sequence[Row], found: Found, who: str) -> dict[str, Any]:
    if trial is None or not trial.queries:
        return geometry(found.of(who, [str(row.content["texts"][0]) for row in rows]), [])
    start = len(trial.corpus)
    pairs = [(start + number, at) for number, query in enumerate(trial.queries) for at in query.relevant][:PAIRS]
    both = np.concatenate([found.of(who, trial.corpus), found.of(who, [query.text for query in trial.queries])])
    return {**geometry(found.of(who, trial.corpus), []), "alignment": geometry(both, pairs)["alignment"]}


def _known_figures(trial: Trial, trained: int, found: Found, asked: Asked) -> dict[str, Any]:
    """Return the figures of search in families that training knows, with titles that it did not see."""
    values = _ranked(trial.queries, {who: _ranks(trial, found, who) for who in found.sides})
    scored = _scored(values, asked)
    return {
        "queries": len(trial.queries),
        "corpus": len(trial.corpus),
        "trained_titles": trained,
        "metrics": scored.metrics["metrics"],
        "comparison": compare(scored.measured, scored.primary, asked.seed),
    }
