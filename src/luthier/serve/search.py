"""A search in the terminal: each line is a query, and the nearest texts of the corpus appear below it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from luthier.errors import UserError
from luthier.run.atomic import write_json
from luthier.serve import commands
from luthier.serve.vectors import Corpus, Hit, RunVectors

HELP = """\
/tuned, /base, /both   search with the tuned model, its base, or both side by side
/k [N]                 say or set how many texts are told
/least [X]             say or set the least similarity that is told, -1 to 1
/like N                search with the text of hit N of the last answer
/corpus [FILE]         say which texts are searched, or search those of a file
/model [RUN]           say which model searches, or change to another run
/save FILE             write all queries and what they found, as JSON
/help, /quit           this list; leave (Ctrl-D does too)
A line that begins with // is sent without its first slash."""
WHO = {"tuned": (False,), "base": (True,), "both": (True, False)}


@dataclass
class Search:
    """One session.

    Attributes:
        model: what makes the vectors. corpus: what is searched. say: writes results. tell: writes about the session.
        open_run: loads another run by name. column: of files that hold a corpus.
        who: "tuned", "base" or "both". k: texts told. least: similarity that is told at least.
        history: queries and what they found.
    """

    model: RunVectors
    corpus: Corpus
    say: Callable[[str], None]
    tell: Callable[[str], None]
    open_run: Callable[[str], RunVectors]
    column: str | None = None
    who: str = "tuned"
    k: int = 10
    least: float = -1.0
    history: list[dict[str, Any]] = field(default_factory=list)

    def take(self, line: str) -> bool:
        """Take one line, a query or a command. Returns False when the user leaves.

        Raises:
            UserError: the line asks for something that cannot be.
        """
        handlers: dict[str, Callable[[str], None]] = {
            **{name: self._switch(name) for name in WHO},
            "k": self._set_k,
            "least": self._set_least,
            "like": self._like,
            "corpus": self._corpus,
            "model": self._model,
            "save": self._save,
            "help": lambda _: self.tell(HELP),
        }
        return commands.take(line, self.find, handlers)

    def find(self, query: str) -> dict[str, list[Hit]]:
        """Search for a text, tell what is nearest, and keep it in the history; hits by "base" and "tuned"."""
        found = {}
        for base in WHO[self.who]:
            hits = self.model.search([query], self.corpus, self.k, base)[0]
            found["base" if base else "tuned"] = [hit for hit in hits if hit.similarity >= self.least]
        self.history.append({"query": query, **{who: [vars(hit) for hit in hits] for who, hits in found.items()}})
        for who, hits in found.items():
            if len(found) > 1:
                self.say(f"{who}:\n")
            for number, hit in enumerate(hits, 1):
                self.say(f"{number:3}  {hit.similarity:6.3f}  {hit.text}{f'  [{hit.told}]' if hit.told else ''}\n")
            if not hits:
                self.say(f"     nothing at or above {self.least:g}\n")
        if len(found) > 1:
            shared = {hit.place for hit in found["base"]} & {hit.place for hit in found["tuned"]}
            self.say(f"{len(shared)} of {self.k} texts are in both\n")
        return found

    def transcript(self) -> dict[str, Any]:
        """Return the session as JSON."""
        return {"run": self.model.name, "corpus": self.corpus.name, "searches": self.history}

    def _switch(self, who: str) -> Callable[[str], None]:
        def switch(_: str) -> None:
            self.who = who
            self._model("")

        return switch

    def _set_k(self, value: str) -> None:
        if value:
            if not value.isdecimal() or int(value) < 1:
                raise UserError(f"{value!r} is no number of texts.", "/k", "For example: /k 20")
            self.k = int(value)
        self.tell(f"{self.k} texts are told")

    def _set_least(self, value: str) -> None:
        if value:
            try:
                number = float(value)
            except ValueError:
                number = 2.0
            if not -1 <= number <= 1:
                raise UserError(f"{value!r} is no similarity from -1 to 1.", "/least", "For example: /least 0.5")
            self.least = number
        self.tell(f"told is what has a similarity of {self.least:g} or more")

    def _like(self, value: str) -> None:
        hits = list(self.history[-1].values())[-1] if self.history else []
        if not value.isdecimal() or not 1 <= int(value) <= len(hits):
            raise UserError(f"There is no hit {value or '?'} in the last answer.", "/like", "For example: /like 1")
        self.find(str(hits[int(value) - 1]["text"]))

    def _corpus(self, name: str) -> None:
        if name:
            self.corpus = self.model.corpus(Path(name).expanduser(), self.column)
        self.tell(f"{self.corpus.name}: {len(self.corpus.texts):,} texts")

    def _model(self, name: str) -> None:
        if name in WHO:
            self.who = name
        elif name:
            self.model = self.open_run(name)
        self.tell(f"{self.model.name}, {self.who}")

    def _save(self, name: str) -> None:
        if not name:
            raise UserError("/save needs the name of a file.", "", "For example: /save searches.json")
        path = Path(name).expanduser().absolute()
        if path.exists():
            raise UserError("There is a file of that name already.", str(path), "Choose another name.")
        write_json(path, self.transcript())
        self.tell(f"saved to {path}")


def ask(search: Search) -> None:
    """Search on a terminal until Ctrl-D or /quit, with line editing and history where the system has readline."""
    with suppress(ImportError):  # Windows: the console edits lines itself
        import readline  # noqa: F401  (importing it gives input() history and editing)
    while True:
        try:
            if not search.take(input("search> ")):
                return
        except KeyboardInterrupt:
            search.tell("\n(Ctrl-D or /quit leaves)")
        except EOFError:
            search.tell("")
            return
        except UserError as error:
            search.tell(str(error))


def read_through(search: Search, lines: TextIO) -> list[UserError]:
    """Take piped lines one after another. Returns what could not be done, line by line."""
    errors = []
    for line in lines:
        try:
            if commands.is_prompt(line):
                search.say(f"{line.strip()}\n")
            if not search.take(line):
                break
        except UserError as error:
            search.tell(str(error))
            errors.append(error)
    return errors
