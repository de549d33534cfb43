"""Verbs that let a trained model answer: chat and predict."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.console import DEFAULT_RUNS, JsonOption, QuietOption, RunArgument, RunsOption, print_json

if TYPE_CHECKING:
    from luthier.serve.vectors import RunVectors

BaseOption = Annotated[bool, typer.Option("--base", help="Let the base answer instead of the tuned model.")]
TemperatureOption = Annotated[
    float, typer.Option("--temperature", min=0.0, help="0 takes the likeliest word; higher is more varied.")
]
TopPOption = Annotated[
    float, typer.Option("--top-p", min=0.0, max=1.0, help="Choose among the words that hold this probability.")
]
TokensOption = Annotated[
    int | None, typer.Option("--max-new-tokens", min=1, help="Tokens of an answer (default: the recipe's).")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of the draws when the temperature is above 0.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(chat)
    app.command()(predict)


def chat(  # noqa: PLR0913, PLR0917  (each argument is an option)
    run: RunArgument,
    base: BaseOption = False,
    system: Annotated[str | None, typer.Option("--system", help="System message (default: the recipe's).")] = None,
    temperature: TemperatureOption = 0.7,
    top_p: TopPOption = 0.9,
    max_new_tokens: TokensOption = None,
    seed: SeedOption = 0,
    corpus: Annotated[
        Path | None, typer.Option("--corpus", help="File of texts to search in (embeddings; default: the run's own).")
    ] = None,
    column: Annotated[str | None, typer.Option("--column", help="Column of the corpus that holds the texts.")] = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
) -> None:
    """Talk to the model of a run, or search with it when it gives vectors. /help lists the commands, Ctrl-D leaves.

    Piped in, one prompt a line, the answers go to standard output. With --json: the whole conversation, at the end.
    """
    from luthier.run.folder import find_run
    from luthier.serve.chat import Chat, Settings, read_through, talk
    from luthier.serve.load import RunModel, open_run, speaking

    def opened(name: str) -> RunModel:
        return speaking(find_run(name, runs))

    def say(piece: str) -> None:
        sys.stdout.write("" if as_json else piece)
        sys.stdout.flush()

    interactive = sys.stdin.isatty() and sys.stdout.isatty() and not as_json

    def tell(line: str) -> None:
        print(line, file=sys.stdout if interactive else sys.stderr, flush=True)

    found = open_run(find_run(run, runs))
    if not isinstance(found, RunModel):
        _search(found, runs, (corpus, column, base), (say, tell), as_json)
        return
    model = found
    settings = Settings(max_new_tokens or model.max_new_tokens, temperature, top_p, seed)
    conversation = Chat(model, settings, say, tell, opened, base)
    conversation.system = conversation.system if system is None else system
    if interactive:
        tell(f"{model.name}, {conversation.who} model. /help lists the commands, Ctrl-D leaves.")
        talk(conversation, sys.stdout)
        return
    errors = read_through(conversation, sys.stdin, sys.stderr if as_json else sys.stdout)
    if as_json:
        print_json(conversation.transcript() | {"errors": [error.problem for error in errors]})
    if errors:
        raise typer.Exit(2)


def _search(
    model: RunVectors,
    runs: Path,
    asked: tuple[Path | None, str | None, bool],
    told: tuple[Callable[[str], None], Callable[[str], None]],
    as_json: bool,
) -> None:
    """Search on the terminal, or with piped queries."""
    from luthier.errors import UserError
    from luthier.run.folder import find_run
    from luthier.serve.load import open_run
    from luthier.serve.search import Search, ask, read_through
    from luthier.serve.vectors import RunVectors

    def opened(name: str) -> RunVectors:
        other = open_run(find_run(name, runs))
        if not isinstance(other, RunVectors):
            raise UserError(f"{other.name} answers in words.", name, "Name a run of an embedding model.")
        return other

    file, column, base = asked
    search = Search(model, model.corpus(file, column), *told, opened, column, "base" if base else "tuned")
    if sys.stdin.isatty() and sys.stdout.isatty() and not as_json:
        size = len(search.corpus.texts)
        search.tell(f"{model.name}, {search.who} model, {size:,} texts. /help lists the commands, Ctrl-D leaves.")
        ask(search)
        return
    errors = read_through(search, sys.stdin)
    if as_json:
        print_json(search.transcript() | {"errors": [error.problem for error in errors]})
    if errors:
        raise typer.Exit(2)


def predict(  # noqa: PLR0913, PLR0917  (each argument is an option)
    run: RunArgument,
    file: Annotated[Path, typer.Argument(help="Rows with prompts: JSONL, JSON, CSV, TSV or Parquet.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Where to write; the suffix is the format (default: FILE.answers.…).")
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", help="Column that holds the prompt (default: the recipe's, or prompt).")
    ] = None,
    base: BaseOption = False,
    temperature: TemperatureOption = 0.0,
    top_p: TopPOption = 1.0,
    max_new_tokens: TokensOption = None,
    seed: SeedOption = 0,
    raw: Annotated[
        bool, typer.Option("--raw", help="Do not quote CSV cells that a spreadsheet would run as formulas.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing output.")] = False,
    runs: RunsOption = DEFAULT_RUNS,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer every row of a file, or make its vector. Keeps all columns; a killed prediction goes on.

    A language model adds the columns answer and error; an embedding model vector and error (.parquet, .jsonl), or it
    writes the vectors alone (.npy).
    """
    from luthier.models.engines import Sampling
    from luthier.run.folder import find_run
    from luthier.run.progress import choose
    from luthier.serve.batch import Asked
    from luthier.serve.batch import predict as answer_file
    from luthier.serve.load import RunModel, open_run

    model = open_run(find_run(run, runs))
    if not isinstance(model, RunModel):
        from luthier.serve.embed import embed_file

        made = embed_file(model, file, to, column, base=base, overwrite=force, progress=choose(quiet))
        if as_json:
            print_json({**vars(made), "output": str(made.output), "seconds": round(made.seconds, 3)})
        else:
            size = f"{made.dimensions} dimensions, {made.failed} without text"
            print(f"{made.answered} of {made.rows} rows have a vector ({size}): {made.output}")
        return
    done = answer_file(
        model,
        file,
        to,
        Asked(column, base, max_new_tokens, Sampling(temperature, top_p, seed)),
        raw=raw,
        overwrite=force,
        progress=choose(quiet),
    )
    if as_json:
        print_json({**vars(done), "output": str(done.output), "seconds": round(done.seconds, 3)})
        return
    print(f"{done.answered} of {done.rows} rows answered, {done.failed} with an error: {done.output}")
