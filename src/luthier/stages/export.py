"""export: the tuned model as one plain folder, proven, with its card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.data.rows import question, read_rows
from luthier.errors import GateError
from luthier.run.atomic import read_json, write_json, write_text
from luthier.run.folder import RunFolder
from luthier.run.progress import Progress

if TYPE_CHECKING:
    from luthier.recipe.schema import Recipe

PROBES = 16  # texts on which the two are compared


def inputs(recipe: Recipe) -> list[Path]:
    """Return the files from outside the run that decide the outcome: those of a local base."""
    from luthier.models.bases import local_files, resolve

    return local_files(resolve(recipe.model.base))


def export(recipe: Recipe, folder: RunFolder, progress: Progress) -> dict[str, Any]:
    """Write 7-export/: merged/, onnx/ where the recipe asks for it, verify.json, and the model card README.md.

    Raises:
        UserError: the base is not at hand, or a library that an export needs is not installed.
        GateError: what was exported does not answer as what was trained; verify.json says by how much.
    """
    from luthier.export.card import card
    from luthier.export.onnx import check_installed
    from luthier.kinds import kind_named
    from luthier.models.bases import resolve

    if recipe.export.onnx:
        check_installed()
    verified = _merged(recipe, folder, progress) if recipe.export.merged else {}
    write_json(folder.verification, verified)
    gives = kind_named(recipe.kind).model.GIVES
    write_text(folder.card, card(folder, recipe.name, gives, resolve(recipe.model.base).licence, recipe.model.system))
    failed = [name for name, found in verified.items() if not found["passed"]]
    if failed:
        raise GateError(
            f"What was exported does not answer as the trained model does: {', '.join(failed)}.",
            str(folder.verification),
            "Do not use it. The adapter in 4-train/adapter is whole; report this with verify.json.",
        )
    return {"exported": {name: found["passed"] for name, found in verified.items()}}


def _merged(recipe: Recipe, folder: RunFolder, progress: Progress) -> dict[str, Any]:
    from luthier.engine.threads import use_cores
    from luthier.export.merged import write_merged
    from luthier.export.onnx import write_onnx
    from luthier.kinds import kind_named
    from luthier.models.bases import resolve
    from luthier.models.pair import Pair

    use_cores()
    kind, base = kind_named(recipe.kind), resolve(recipe.model.base)
    if read_json(folder.train_report)["method"] == "qlora":
        progress.say("  not merged: the base is in 4 bit; merge the adapter into the base in full precision")
        return {}
    tokenizer, _ = kind.model.load_tokenizer(base)
    texts = _probes(folder)
    pair = Pair(lambda: kind.model.load_base(base, recipe.model.dtype, recipe.adapter.method), folder.adapter)
    with pair.tuned() as trained:
        length = recipe.data.max_length
        verified = {"merged": write_merged(kind.model, trained, base, tokenizer, length, texts, folder.merged)}
    progress.say(f"  {folder.merged}")
    if recipe.export.onnx:
        verified["onnx"] = write_onnx(folder.merged, folder.onnx, texts)
        progress.say(f"  {folder.onnx}")
    return verified


def _probes(folder: RunFolder) -> list[str]:
    """Return different texts on which a model and what was exported of it are compared: of the test rows, if any."""
    for split in ("test", "train"):
        asked = dict.fromkeys(question(row).strip() for row in read_rows(folder.rows(split)))
        if texts := [text for text in asked if text][:PROBES]:
            return texts
    return ["Hello"]
