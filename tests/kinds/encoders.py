"""A tiny sentence-transformers base with pooling and normalisation, and rows of titles, pairs and triplets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from luthier.data.rows import Row
from tests import tiny

FAMILIES = {
    "nurse": ["Registered Nurse", "Ward Nurse", "Staff Nurse, Night", "Nurse (Paediatrics)"],
    "cook": ["Line Cook", "Chef de Partie", "Kitchen Cook", "Grill Chef"],
    "driver": ["Truck Driver", "Lorry Driver", "HGV Driver", "Long-Haul Trucker"],
    "teacher": ["Primary Teacher", "School Teacher", "Class Teacher", "Form Tutor"],
}


def base(folder: Path, architecture: str = "bert", seed: int = 0) -> Path:
    """Write a tiny sentence-transformers folder: transformer, mean pooling, normalisation."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    plain = tiny.make(architecture, folder / "plain", seed, chat_template=False)
    transformer = Transformer(str(plain), max_seq_length=64)
    pooling = Pooling(transformer.get_embedding_dimension(), "mean")
    SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu").save_pretrained(
        str(folder / "sentence"), create_model_card=False
    )
    return folder / "sentence"


def titles(families: dict[str, list[str]] | None = None) -> list[Row]:
    """Return a row for each title."""
    found = [(label, title) for label, own in (families or FAMILIES).items() for title in own]
    return [
        Row(f"t{place}", "title", {"title": title, "label": label}, "titles.csv", place + 2, {}, label)
        for place, (label, title) in enumerate(found)
    ]


def texts(*own: str, place: int = 0, score: float | None = None) -> Row:
    """Return a pair (two texts, perhaps a score) or a triplet (more)."""
    content: dict[str, Any] = {"texts": list(own)} | ({} if score is None else {"score": score})
    return Row(f"p{place}", "pair" if len(own) == 2 else "triplet", content, "pairs.jsonl", place + 1)
