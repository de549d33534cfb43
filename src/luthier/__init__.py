"""Luthier: fine-tune a small model on your own data, prove that it helped, ship it."""

__version__ = "0.1.0"
