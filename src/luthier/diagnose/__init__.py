"""Diagnosis: every answer with the categories of its failure, the evidence for each, and what they have in common."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from luthier.diagnose.base import Diagnose

# What a kind declares as its DIAGNOSIS, and where it is done.
DIAGNOSES = {
    "answers": "luthier.diagnose.answers:diagnose_answers",
    "retrieval": "luthier.diagnose.retrieval:diagnose_retrieval",
}


def diagnosis_named(name: str) -> Diagnose:
    """Return the diagnosis that a kind declares by that name."""
    module, _, function = DIAGNOSES[name].partition(":")
    return cast("Diagnose", getattr(import_module(module), function))
