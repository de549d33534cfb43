"""The kinds of model. The one place that knows their names."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from luthier.errors import UserError, did_you_mean
from luthier.kinds.base import Kind

# Recipe name: "module:name" of its Kind. A kind is in the table before it is in the package.
TABLE = {
    "causal-lm": "luthier.kinds.causal_lm:KIND",
    "embedding": "luthier.kinds.embedding:KIND",
}


def kind_named(name: str) -> Kind:
    """Return the kind that a recipe names.

    Raises:
        UserError: there is no such kind, or it is not here yet.
    """
    here = [known for known, target in TABLE.items() if find_spec(target.partition(":")[0]) is not None]
    if name not in TABLE:
        raise UserError(f"No kind {name!r}.", "kind", did_you_mean(name, here, f"The kinds are: {', '.join(here)}."))
    if name not in here:
        raise UserError(f"The kind {name!r} is not here yet.", "kind", f"The kinds are: {', '.join(here)}.")
    module, _, attribute = TABLE[name].partition(":")
    kind: Kind = getattr(import_module(module), attribute)
    return kind
