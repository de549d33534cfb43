"""The command line: verbs grouped by subject; each parses, calls one function, prints.

`luthier --help` must answer in under 0.3 s, so every verb imports what it needs inside itself.
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import Annotated, NoReturn

import typer

from luthier.cli import augment, compare, plan, recipes, report, runs, schedule, system, talk
from luthier.cli.console import print_error
from luthier.errors import UserError
from luthier.version import __version__

INTERRUPTED = 130
LEADER_TELLS = 10.0  # seconds in which a launcher ends the others once rank 0 has told and left

app = typer.Typer(
    name="luthier",
    help="Fine-tune a small model on your own data, prove that it helped, ship it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: importing rich for it would cost a third of the time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
recipes.register(app)
augment.register(app)
plan.register(app)
runs.register(app)
compare.register(app)
report.register(app)
schedule.register(app)
talk.register(app)
system.register(app)


def _version(asked: bool) -> None:
    if asked:
        print(f"luthier {__version__}")
        raise typer.Exit


@app.callback()
def luthier(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Fine-tune a small model on your own data, prove that it helped, ship it."""


def main() -> None:
    """Run the command line. Exit status: 0 done, 1 failed while running, 2 the input is wrong, 3 a gate said no."""
    # PEFT makes transformers tell of its own renamed attributes; a user can do nothing about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    try:
        app()
    except UserError as error:
        _tell(error)
    except OSError as error:
        from luthier.run.atomic import explained

        _tell(explained(error, error.filename or ""))
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # typer makes it of Ctrl-C
            from luthier.run import ranks

            if ranks.leads():
                print("Interrupted. The same command goes on where it stopped.", file=sys.stderr)
        raise


def _tell(error: UserError) -> NoReturn:
    """Tell what went wrong, and exit. Where several processes meet it, rank 0 tells and the launcher ends the rest."""
    from luthier.run import ranks

    if not ranks.leads():
        time.sleep(LEADER_TELLS)
    print_error(error, as_json="--json" in sys.argv)
    sys.exit(error.exit_status)
