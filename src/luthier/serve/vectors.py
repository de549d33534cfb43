"""The model of a run that gives vectors: for texts, for a whole corpus once, and for search in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import UserError, did_you_mean
from luthier.run.folder import RunFolder
from luthier.run.progress import Progress

if TYPE_CHECKING:
    from luthier.models.vectors import Embedder, Vectors

USUAL_COLUMNS = ("title", "text", "sentence", "query", "question", "anchor", "name")
WORTH_MERGING = 512  # texts from which folding the adapter into the weights pays
SIDES = ("train", "validation", "test")


@dataclass(frozen=True)
class Corpus:
    """Texts to search in.

    Attributes:
        name: for people, and of the file of kept vectors. texts: distinct. told: what stands beside each (its family).
    """

    name: str
    texts: list[str]
    told: list[str]


@dataclass(frozen=True)
class Hit:
    """One text found: its place in the corpus, the text, what stands beside it, and its cosine similarity."""

    place: int
    text: str
    told: str
    similarity: float


class RunVectors:
    """Base and tuned model of one run that gives vectors. Weights are loaded with the first text.

    Args:
        folder: the run; its recipe.yaml names the base, 4-train/adapter holds what was trained.

    Attributes:
        name: `<recipe name>/<id>`. fields: Luthier's field names and the columns of the run's data.

    Raises:
        UserError: the run's recipe or the base's tokenizer cannot be read.
    """

    def __init__(self, folder: RunFolder) -> None:
        from luthier.engine.threads import use_cores
        from luthier.kinds import kind_named
        from luthier.models.bases import resolve
        from luthier.models.pair import Pair
        from luthier.recipe.load import load_recipe

        use_cores()
        recipe = load_recipe(folder.recipe).recipe
        self.folder = folder
        self.name = f"{recipe.name}/{folder.id}"
        self.fields = dict(recipe.data.fields)
        self._kind, self._base = kind_named(recipe.kind), resolve(recipe.model.base)
        self._max_length = recipe.data.max_length
        self._settings = [recipe.model.model_dump(mode="json"), recipe.adapter.method, self._max_length]
        self._tokenizer, _ = self._kind.model.load_tokenizer(self._base)
        self._pair = Pair(
            lambda: self._kind.model.load_base(self._base, recipe.model.dtype, recipe.adapter.method), folder.adapter
        )

    def answer(self, texts: Sequence[str], *, base: bool = False) -> Vectors:
        """Return one vector for each text, in order: [texts, dimensions], float32, as the base's modules scale them.

        Args:
            texts: none empty. base: of the base instead of the tuned model.

        Raises:
            UserError: one text instead of a list, or an empty text.
        """
        if isinstance(texts, str):
            raise UserError("answer takes a list of texts, not one text.", "", 'Write: answer(["…"])')
        for place, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise UserError("A text is empty or no text.", f"texts[{place}]", "Leave it out.")
        with self._embedding(base, len(texts), unit=False) as embedder:
            return embedder.embed(texts)

    def corpus(self, file: Path | None = None, column: str | None = None) -> Corpus:
        """Return the texts of a file, or those of the run's own data with their families.

        Args:
            file: JSONL, JSON, CSV, TSV or Parquet. column: that holds the texts (default: the recipe's, else the first
                of `USUAL_COLUMNS` that is there).

        Raises:
            UserError: the file has no such column, or no text.
        """
        told = self._of_file(file, column) if file is not None else self._of_run()
        if not told:
            raise UserError("There are no texts to search in.", str(file or self.folder.data), "Name another file.")
        name = "corpus" if file is None else f"corpus of {file.name}"
        return Corpus(name, list(told), list(told.values()))

    def vectors(self, corpus: Corpus, base: bool = False, progress: Progress | None = None) -> Vectors:
        """Return the vectors of a corpus, [texts, dimensions], length 1: made once, then kept in the run's folder.

        Kept ones are used while model, data and settings are the same, which their fingerprint tells.
        """
        from luthier.models.vectors import fingerprint, keep, kept

        who = "base" if base else "tuned"
        mark = fingerprint([who, self.identity()], corpus.texts)
        name = f"{who}-{mark[:16]}"
        found = kept(self.folder.vectors, name, mark)
        if found is None:
            with self._embedding(base, len(corpus.texts), unit=True) as embedder:
                found = embedder.embed(corpus.texts, progress, f"vectors of the {corpus.name}")
            keep(self.folder.vectors, name, mark, found)
        return found

    def search(
        self, queries: Sequence[str], corpus: Corpus, k: int = 10, base: bool = False, progress: Progress | None = None
    ) -> list[list[Hit]]:
        """Return the k nearest texts of a corpus for each query, nearest first, by cosine similarity.

        A text that equals the query is not told; search is exact (see `models.vectors.nearest`).

        Raises:
            UserError: the corpus is too large for exact search.
        """
        from luthier.models.vectors import nearest

        vectors = self.vectors(corpus, base, progress)
        place = {text: at for at, text in enumerate(corpus.texts)}
        with self._embedding(base, len(queries), unit=True) as embedder:
            asked = embedder.embed(queries)
        places, similar = nearest(asked, vectors, k, [place.get(query, -1) for query in queries])
        return [
            [
                Hit(at, corpus.texts[at], corpus.told[at], float(value))
                for at, value in zip(row, values, strict=True)
                if value > -2
            ]
            for row, values in zip(places.tolist(), similar.tolist(), strict=True)
        ]

    def identity(self) -> str:
        """Return what identifies the weights and how they are read."""
        from luthier.run.manifest import digest_code, digest_file, digest_value

        weights = sorted(self.folder.adapter.glob("*.safetensors"))
        code = [digest_code(part) for part in ("models/vectors.py", "models/sentence.py")]
        return digest_value([self._settings, [digest_file(path) for path in weights], code])

    @contextmanager
    def _embedding(self, base: bool, count: int, unit: bool) -> Iterator[Embedder]:
        from luthier.models.vectors import merged

        with self._pair.base() if base else self._pair.tuned() as model:
            if base or count < WORTH_MERGING:
                yield self._embedder(model, unit)
            else:
                with merged(model):
                    yield self._embedder(model, unit)

    def _embedder(self, model: Any, unit: bool) -> Embedder:
        return self._kind.model.embedder(model, self._base, self._tokenizer, self._max_length, unit)

    def embedding(self, base: bool, count: int) -> Any:
        """Lend what makes vectors of many texts, as the base's modules scale them; `count`: about how many."""
        return self._embedding(base, count, unit=False)

    def _of_run(self) -> dict[str, str]:
        from luthier.data.rows import from_json
        from luthier.run.atomic import read_jsonl

        told: dict[str, str] = {}
        for side in SIDES:
            path = self.folder.rows(side)
            for row in map(from_json, read_jsonl(path)) if path.is_file() else ():
                if row.form == "title":
                    told.setdefault(str(row.content["title"]), str(row.content["label"]))
                else:
                    told.update((str(text), "") for text in row.content["texts"] if str(text) not in told)
        return told

    def _of_file(self, file: Path, column: str | None) -> dict[str, str]:
        from luthier.serve.tables import read_table

        table = read_table(file)
        name = column_of(table.columns, column, self.fields, str(file))
        beside = next(
            (one for one in (self.fields.get("label"), "label", "family", "code") if one in table.columns), None
        )
        told: dict[str, str] = {}
        for row in table.rows:
            text = str(row.get(name) or "").strip()
            if text:
                told.setdefault(text, str(row.get(beside) or "") if beside else "")
        return told


def column_of(columns: Sequence[str], asked: str | None, fields: dict[str, str], place: str) -> str:
    """Return the column that holds the texts.

    Raises:
        UserError: there is no such column.
    """
    declared = [fields[name] for name in ("title", "anchor") if name in fields]
    wanted = [asked] if asked else [*declared, *USUAL_COLUMNS]
    for name in wanted:
        if name in columns:
            return name
    known = f"Its columns are {', '.join(columns)}. Name one with --column."
    remedy = did_you_mean(asked, list(columns), known) if asked else known
    problem = f"There is no column {asked!r}." if asked else "None of the columns is known to hold the texts."
    raise UserError(problem, place, remedy)
