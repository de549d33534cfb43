"""Loading a base: configuration, tokenizer, weights. Safetensors only, no code from the Hub, offline when asked."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from luthier.errors import UserError, did_you_mean
from luthier.models.bases import CONVERT, Base, local_files, offline, resolve
from luthier.models.tokenizers import ready_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "Base",
    "check_dtype",
    "check_four_bit",
    "device_type",
    "empty_model",
    "is_causal",
    "load_causal",
    "load_config",
    "load_tokenizer",
    "load_weights",
    "local_files",
    "offline",
    "pick_dtype",
    "ready_tokenizer",
    "resolve",
    "tokenizer_at_hand",
]

T = TypeVar("T")
DTYPES = ("float32", "bfloat16", "float16")
FAST_BFLOAT16 = ("amx_bf16", "avx512_bf16")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def pick_dtype(name: str, method: str = "lora") -> torch.dtype:
    """Return the precision of the base weights.

    Args:
        name: "auto", "float32", "bfloat16" or "float16". auto on CUDA: bfloat16 where the device computes in it, else
            float16; on Apple's MPS: float32; on a CPU: bfloat16 where it has AMX or AVX-512 instructions for it
            and its products are measured to be quicker, else float32 (elsewhere it is emulated, and some hundred times
            slower).
        method: of the adapter. "full" trains the base weights themselves, whose updates bfloat16 would round away:
            auto is then float32.

    Raises:
        UserError: the name is none of these.
    """
    import torch

    if name in DTYPES:
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if name != "auto":
        known = ("auto", *DTYPES)
        raise UserError(f"Unknown dtype {name!r}.", "model.dtype", did_you_mean(name, known, f"Known: {known}"))
    if method == "full":
        return torch.float32
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if torch.backends.mps.is_available():
        return torch.float32
    return torch.bfloat16 if _cpu_gains_from_bfloat16() else torch.float32


def check_dtype(name: str) -> None:
    """Refuse to train in a precision that this machine only emulates, some hundred times slower.

    Raises:
        UserError: bfloat16 or float16 on a CPU without instructions for it.
    """
    if name not in ("bfloat16", "float16") or device_type() != "cpu":
        return
    if name == "float16" or not _cpu_has_bfloat16():
        raise UserError(
            f"{name} was asked for, and this CPU has no instructions for it: it would be emulated, "
            "some hundred times slower than float32.",
            "model.dtype",
            "Use auto, which takes what is fastest here, or a machine with a GPU.",
        )


def device_type() -> str:
    """Return where training will run: "cuda", "mps" or "cpu"."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def tokenizer_at_hand(base: Base) -> bool:
    """Tell whether the tokenizer can be loaded without the network: in the base's folder or in the Hub's cache."""
    if base.path is not None:
        return any((base.path / name).is_file() for name in TOKENIZER_FILES)
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(base.source, name), str) for name in TOKENIZER_FILES)


def load_tokenizer(base: Base) -> PreTrainedTokenizerBase:
    """Load the tokenizer as it is; `ready_tokenizer` makes it fit for training.

    Raises:
        UserError: it is not at hand and cannot be fetched, or its files are damaged.
    """
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = _load(base, "tokenizer", AutoTokenizer.from_pretrained, {})
    return tokenizer


def load_config(base: Base) -> PretrainedConfig:
    """Load the configuration: from the folder, else from the catalogue (no network), else from the Hub.

    Raises:
        UserError: it is not at hand and cannot be fetched, or it cannot be read.
    """
    from transformers import AutoConfig

    if base.path is None and base.entry is not None:
        return AutoConfig.for_model(**base.entry.config)
    config: PretrainedConfig = _load(base, "configuration", AutoConfig.from_pretrained, {})
    return config


def empty_model(config: PretrainedConfig, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """Build the model on the meta device: every module and shape, no memory, no weights. `dtype` None: float32."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    build: Any = AutoModelForCausalLM if is_causal(config) else AutoModel
    with torch.device("meta"):
        model: PreTrainedModel = build.from_config(config, dtype=dtype or torch.float32)
    return model


def load_causal(base: Base, dtype: str = "auto", method: str = "lora") -> PreTrainedModel:
    """Load a causal language model on the CPU (4-bit: on the first CUDA device), ready to be adapted.

    Args:
        base: where it is. dtype: see `pick_dtype`. method: of the adapter; "qlora" loads 4-bit NF4 weights
            (Dettmers et al. 2023).

    Raises:
        UserError: the base is not at hand and cannot be fetched, is no causal language model, has pickles for weights,
            lacks weights, or 4-bit is asked of a machine that has no device for it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if method == "qlora":
        check_four_bit()
    if not is_causal(load_config(base)):
        raise UserError(
            f"{base.name} is not a causal language model.",
            "model.base",
            "Choose a base that writes text, such as starter or SmolLM2-135M-Instruct, or kind: embedding.",
        )
    chosen = pick_dtype(dtype, method)
    settings: dict[str, Any] = {"dtype": chosen}
    if method == "qlora":
        from transformers import BitsAndBytesConfig

        compute = torch.bfloat16 if chosen is torch.float32 else chosen
        settings["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
        )
        settings["device_map"] = {"": torch.cuda.current_device()}
    return load_weights(base, AutoModelForCausalLM.from_pretrained, settings)


def load_weights(
    base: Base, load: Callable[..., Any], settings: dict[str, Any], may_lack: str | None = None
) -> PreTrainedModel:
    """Load weights from safetensors through a from_pretrained of transformers, all of them or none.

    Args:
        load: such as `AutoModel.from_pretrained`. settings: what it is told besides.
        may_lack: a module of the model that nothing reads; where the files lack its weights, they are zero.

    Raises:
        UserError: the weights are not at hand and cannot be fetched, are pickles, or some are missing.
    """
    model, told = _load(base, "weights", load, settings | {"use_safetensors": True, "output_loading_info": True})
    missing = sorted(told["missing_keys"])
    unread = [name for name in missing if may_lack and name.startswith(f"{may_lack}.")]
    for name in unread:
        model.get_parameter(name).data.zero_()
    missing = [name for name in missing if name not in unread]
    if missing:
        raise UserError(
            f"{len(missing)} weights of the model are not in its files, {missing[0]} among them.",
            base.source,
            "Copy or fetch the base again; its files do not belong together.",
        )
    loaded: PreTrainedModel = model
    return loaded


def is_causal(config: PretrainedConfig) -> bool:
    """Tell from its configuration whether a model writes text; without a named architecture, whether its type can."""
    from transformers import AutoModelForCausalLM

    named = getattr(config, "architectures", None)
    if named:
        return any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in named)
    return type(config) in AutoModelForCausalLM._model_mapping


def check_four_bit() -> None:
    """Raise a UserError where 4-bit training (qlora) cannot work: no bitsandbytes, or no CUDA device."""
    from importlib.util import find_spec

    import torch

    remedy = "Use method: lora, or a machine with a CUDA device and: pip install bitsandbytes"
    if not torch.cuda.is_available():
        raise UserError("qlora needs a CUDA device, and this machine has none.", "adapter.method", remedy)
    if find_spec("bitsandbytes") is None:
        raise UserError("qlora needs the package bitsandbytes, which is not installed.", "adapter.method", remedy)


def _load(base: Base, what: str, load: Callable[..., T], settings: dict[str, Any]) -> T:
    """Call a from_pretrained: local files only, then, for a base on the Hub and unless offline, the network."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    unreadable = (OSError, ValueError, KeyError, SafetensorError)
    try:
        return load(base.source, local_files_only=True, trust_remote_code=False, **settings)
    except unreadable as error:
        if base.path is not None:
            raise _damaged(base, what, error) from error
        if offline():
            raise _not_fetched(base, what) from error
        if not _hub_resolves():
            raise _no_connection(base, what) from error
    except RuntimeError as error:
        raise _wrong_shapes(base, error) from error
    try:
        return load(base.source, local_files_only=False, trust_remote_code=False, **settings)
    except unreadable as error:
        raise _from_hub(base, what, error) from error
    except RuntimeError as error:
        raise _wrong_shapes(base, error) from error


def _damaged(base: Base, what: str, error: Exception) -> UserError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(f"The {what} of this base cannot be read: {first}", base.source, "Copy or fetch the base again.")


def _wrong_shapes(base: Base, error: RuntimeError) -> Exception:
    if "mismatch" not in str(error).lower():
        return error
    return UserError(
        "The weights do not fit the configuration: their shapes differ.",
        base.source,
        "Copy or fetch the base again; its files do not belong together.",
    )


def _no_connection(base: Base, what: str) -> UserError:
    return UserError(
        f"Not on this machine: the {what} of {base.name}. There is no connection to the Hub to fetch it.",
        f"model.base: {base.source}",
        f"With a network, run: hf download {base.source}. Or choose base: starter, which ships with Luthier.",
    )


def _not_fetched(base: Base, what: str) -> UserError:
    return UserError(
        f"Not on this machine: the {what} of {base.name}. The network is off (HF_HUB_OFFLINE).",
        f"model.base: {base.source}",
        f"Where there is a network, run: hf download {base.source} (HF_HOME is the folder to carry over). "
        "Or choose base: starter, which ships with Luthier.",
    )


def _from_hub(base: Base, what: str, error: Exception) -> UserError:
    """Say why fetching failed, from the exceptions of huggingface_hub that transformers wraps."""
    causes = _chain(error)
    told = " ".join(f"{type(cause).__name__} {cause}" for cause in causes)
    place = f"model.base: {base.source}"
    if "GatedRepo" in told or "gated repo" in told:
        remedy = f"Accept its terms at https://huggingface.co/{base.source} and set HF_TOKEN."
        return UserError(f"{base.name} is gated on the Hub.", place, remedy)
    if "RepositoryNotFound" in told or "is not a local folder and is not a valid model identifier" in told:
        remedy = "Check the spelling; a private one needs HF_TOKEN. A folder is named by its path, ./like/this."
        return UserError("The Hub has no model of that name, and there is no such folder.", place, remedy)
    if "safetensors" in told and what == "weights":
        return UserError("The Hub has no safetensors weights for this base; pickles are not loaded.", place, CONVERT)
    if _is_network(causes) or "connect" in told.lower():
        return _no_connection(base, what)
    return _damaged(base, what, error)


def _hub_resolves() -> bool:
    """Tell at once when there is no network; huggingface_hub tries again for a minute. A proxy may know better."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY")):
        return True
    from huggingface_hub import constants

    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True


def _chain(error: BaseException | None) -> list[BaseException]:
    causes: list[BaseException] = []
    while error is not None and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def _is_network(causes: list[BaseException]) -> bool:
    names = ("LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError", "ConnectTimeout", "ProxyError")
    return any(isinstance(cause, ConnectionError | TimeoutError) or type(cause).__name__ in names for cause in causes)


@cache
def _cpu_gains_from_bfloat16() -> bool:
    """Tell whether products in bfloat16 are quicker: measured once for a machine, and only where it can be so."""
    import torch

    from luthier.models.rate import matmul_rate

    return _cpu_has_bfloat16() and matmul_rate("cpu", torch.bfloat16) > matmul_rate("cpu", torch.float32)


@cache
def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(name in flags for name in FAST_BFLOAT16)
