"""Luthier: fine-tune a small model on your own data, prove that it helped, ship it.

Importing this imports neither torch nor transformers; each function imports what it needs.
"""

from luthier.api import Run, compare_scores, learning_rate, load, load_recipe, run, schedule
from luthier.version import __version__

__all__ = ["Run", "__version__", "compare_scores", "learning_rate", "load", "load_recipe", "run", "schedule"]
