"""The rules of the house: sizes, a light start, a fresh command reference."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 60


def oversized(path: Path) -> list[str]:
    """Return what breaks the size limits in a file."""
    text = path.read_text(encoding="utf-8")
    found = [f"{path.name}: {text.count(chr(10))} lines"] if text.count("\n") > LINES_OF_A_FILE else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LINES_OF_A_FUNCTION:
                found.append(f"{path.name}:{node.lineno} {node.name}: {length} lines")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_sizes(path: Path) -> None:
    assert oversized(path) == []


def test_the_size_check_can_fail(tmp_path: Path) -> None:
    long = tmp_path / "long.py"
    long.write_text("def f():\n" + "    x = 1\n" * 70 + "y = 2\n" * 400)
    assert len(oversized(long)) == 2


def verbs() -> list[list[str]]:
    """Return the words of every verb, read from the command line itself."""
    import typer.main

    from luthier.cli import app

    command = typer.main.get_command(app)
    found: list[list[str]] = [[]]
    for name, verb in sorted(command.commands.items()):  # type: ignore[attr-defined]
        inner = getattr(verb, "commands", {})
        found += [[name], *([name, word] for word in sorted(inner))]
    return found


@pytest.mark.parametrize("words", verbs(), ids=lambda words: " ".join(["luthier", *words]))
def test_help_is_quick_and_light(words: list[str]) -> None:
    """Best of three, as other tests run beside it. What makes it slow is importing torch or transformers."""
    heavy = "torch transformers peft polars datasets numpy scipy orjson"
    script = (
        "import sys; from luthier.cli import app\n"
        f"try: app({[*words, '--help']!r})\n"
        f"except SystemExit: pass\nprint('heavy:', [m for m in {heavy.split()!r} if m in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - started)
        assert "heavy: []" in told.stdout
        assert "Usage" in told.stdout
        if seconds[-1] < 0.3:
            return
    assert min(seconds) < 1.5, f"{min(seconds):.2f} s even beside other tests"


def test_importing_luthier_is_light() -> None:
    script = "import sys, luthier; print([m for m in ('torch', 'transformers', 'pydantic') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_command_reference_is_fresh(tmp_path: Path) -> None:
    fresh = tmp_path / "commands.md"
    typer_docs = [sys.executable, "-m", "typer", "luthier.cli", "utils", "docs", "--name", "luthier", "--output", fresh]
    subprocess.run(typer_docs, check=True, capture_output=True, env={**os.environ, "TERM": "dumb"})
    committed = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert committed == fresh.read_text(encoding="utf-8"), "Run: make docs"


def test_links_and_file_names_in_the_docs_exist() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
