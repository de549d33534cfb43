"""What the work of a training costs on this machine: seconds for each sort of work, and what an allocator takes.

The constants are fitted to a few short trainings of small models (`luthier.kinds.calibrate`), once for each machine,
precision, number of threads and version, and kept in the cache folder. Where nothing was measured they come from
machine.json, which says where they were measured, scaled by how fast this machine multiplies matrices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from luthier.errors import UserError
from luthier.models.rate import cache_folder, machine_key, matmul_rate
from luthier.run.atomic import write_json
from luthier.run.manifest import digest_code, digest_value

if TYPE_CHECKING:
    import torch

FILE = "calibrations.json"
TABLE = Path(__file__).with_name("machine.json")
LIBRARIES = ("torch", "transformers", "peft")
CODE = ("engine", "models", "kinds")  # what was measured was done by these packages


@dataclass(frozen=True)
class Seconds:
    """Seconds that a unit of work takes; also how much work there is, in the same units.

    Attributes:
        product: an operation (FLOP) of the matrix products. kept: a byte kept for the backward pass, for all that only
            moves numbers. layer: starting a layer of a micro-batch, both passes. logit: one logit besides its products.
        score: a score of attention times the size of a head. step: an optimizer step. weight: a trained weight's part
            in it. save: a checkpoint. saved: a trained weight's part in that.
    """

    product: float = 0.0
    kept: float = 0.0
    layer: float = 0.0
    logit: float = 0.0
    score: float = 0.0
    step: float = 0.0
    weight: float = 0.0
    save: float = 0.0
    saved: float = 0.0

    def times(self, work: Seconds) -> float:
        """Return the seconds of so much work."""
        return float(sum(getattr(self, one.name) * getattr(work, one.name) for one in fields(self)))


@dataclass(frozen=True)
class Machine:
    """One machine, in one precision, with one number of threads.

    Attributes:
        seconds: see `Seconds`. held: what the allocator takes for a byte that is kept for the backward pass.
        process: GiB of interpreter and libraries; 0 on a GPU, whose context `activations.machine_memory` leaves out.
        measured: whether this machine was measured, or another one.
    """

    seconds: Seconds
    held: float
    process: float
    measured: bool

    def to_json(self) -> dict[str, Any]:
        """Return it as the cache keeps it."""
        return asdict(self)


def shipped(device: str, dtype: torch.dtype, rate: float | None = None) -> Machine:
    """Return the constants of machine.json.

    Args:
        device: "cpu", "mps" or "cuda". dtype: of the base.
        rate: matrix products of this machine in FLOP/s, see `rate.matmul_rate`; None measures it.
    """
    told = _table()[device]
    slower = told["rate"] / (matmul_rate(device, dtype) if rate is None else rate)
    seconds = Seconds(**{name: value * slower for name, value in told["seconds"].items()})
    return Machine(seconds, told["held"], told["process"], measured=False)


def known(device: str, dtype: torch.dtype) -> Machine | None:
    """Return what was measured on this machine with these libraries and this Luthier; None where nothing was."""
    told = _kept().get(key(device, dtype))
    try:
        return Machine(**{**told, "seconds": Seconds(**told["seconds"])}) if isinstance(told, dict) else None
    except (TypeError, KeyError):
        return None


def remember(device: str, dtype: torch.dtype, machine: Machine) -> None:
    """Keep what was measured; a cache folder that cannot be written to costs a measurement each time, no more."""
    with suppress(UserError):
        write_json(cache_folder() / FILE, {**_kept(), key(device, dtype): machine.to_json()})


def key(device: str, dtype: torch.dtype) -> str:
    """Return what a measurement holds for: processor, device, precision, threads, libraries, Luthier's own code."""
    libraries = " ".join(f"{name} {version(name)}" for name in LIBRARIES)
    code = digest_value([digest_code(part) for part in CODE])[:12]
    return f"{machine_key(device, dtype)} | {libraries} | code {code}"


def fit_seconds(observed: Sequence[tuple[Mapping[str, float], float]]) -> Seconds:
    """Return the constants that come nearest to what was observed, in shares of each observation; none is negative.

    Args:
        observed: (work by the names of `Seconds`, seconds it took); more of them than there are names in use.
    """
    import numpy as np
    from scipy.optimize import nnls

    names = [one.name for one in fields(Seconds)]
    work = np.array([[one.get(name, 0.0) for name in names] for one, _ in observed])
    took = np.array([seconds for _, seconds in observed])
    scale = np.where(work.max(0) > 0, work.max(0), 1.0)  # FLOP and steps differ by ten orders of magnitude
    found, _ = nnls(work / scale / took[:, None], np.ones(len(took)))
    return Seconds(**dict(zip(names, (found / scale).tolist(), strict=True)))


def _kept() -> dict[str, Any]:
    try:
        kept = orjson.loads((cache_folder() / FILE).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return kept if isinstance(kept, dict) else {}


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = orjson.loads(TABLE.read_bytes())
    return table
