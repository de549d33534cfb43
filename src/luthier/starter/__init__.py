"""The small base model that ships with Luthier, and the script that made it: ``luthier.starter.pretrain``."""

from pathlib import Path


def path() -> Path:
    """The folder of the shipped weights, as transformers loads it. Imports nothing heavy."""
    return Path(__file__).parent / "weights"
