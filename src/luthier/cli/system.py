"""Verbs about the installation: doctor."""

from __future__ import annotations

import typer

from luthier.cli.console import JsonOption, print_json


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(doctor)


def doctor(as_json: JsonOption = False) -> None:
    """Check the installation: Python, libraries, machine, shipped recipes, a place to write."""
    from luthier.run.doctor import check

    checks = check()
    if as_json:
        print_json([{"name": one.name, "ok": one.ok, "found": one.found, "remedy": one.remedy} for one in checks])
    else:
        for number, one in enumerate(checks, 1):
            print(f"{number}. {'ok  ' if one.ok else 'MEND'} {one.name}: {one.found}")
            if not one.ok:
                print(f"        {one.remedy}")
    if not all(one.ok for one in checks):
        raise typer.Exit(1)
