"""The export stage: a merged folder that other libraries load and that answers as the adapter did, and its card."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from luthier.errors import GateError
from luthier.recipe.load import load_recipe
from luthier.run.atomic import read_json, write_json, write_jsonl, write_text
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.stages.export import export
from tests import finished, tiny

ENTRY = {
    "base": 0.1,
    "tuned": 0.2,
    "difference": 0.1,
    "ci95": [0.05, 0.15],
    "verdict": "improved",
    "n": 6,
    "items": 12,
    "minimum_detectable": 0.04,
}


def told(folder: RunFolder, method: str = "lora", sentence: str = "ROUGE-L went up.") -> RunFolder:
    """Write the reports that the card reads."""
    counts = {"found": 24, "rejected": 1, "augmented": 0, "train": 4, "validation": 2, "test": 12}
    write_json(folder.data_report, {"rows": counts, "leaks": []})
    write_json(folder.plan_report, {"base": {"name": "tiny", "hub_id": None, "dtype": "float32"}})
    report = {
        "trainable": 100,
        "total": 1000,
        "steps": 7,
        "epochs": 1.0,
        "seconds": 3.0,
        "best_validation_loss": 1.5,
        "best_step": 7,
        "adapter_proof": {"holds": True},
        "notes": [],
        "method": method,
    }
    write_json(folder.train_report, report)
    comparison = {
        "primary": "rougeL",
        "verdict": "improved",
        "sentence": sentence,
        "correction": "Holm",
        "metrics": {"rougeL": ENTRY},
    }
    write_json(folder.comparison, comparison)
    record = {"name": "coach", "id": folder.id, "status": "partial", "stages": [], "seed": 7}
    write_json(folder.record, record | {"versions": {"torch": "2"}, "machine": {}})
    return folder


def run(folder: RunFolder, **overrides: Any) -> dict[str, Any]:
    return export(load_recipe(folder.recipe, overrides=overrides).recipe, folder, Silent())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_merged_folder_answers_in_transformers_as_base_and_adapter_do(tmp_path: Path, method: str) -> None:
    folder = told(finished.make(tmp_path, method=method), method)
    assert run(folder) == {"exported": {"merged": True}}
    tokenizer = AutoTokenizer.from_pretrained(folder.merged)
    ids = tokenizer("What is overfitting?", return_tensors="pt")["input_ids"]
    base = AutoModelForCausalLM.from_pretrained(folder.path.parent / "base", dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, str(folder.adapter)) if method == "lora" else None
    tuned = tuned or AutoModelForCausalLM.from_pretrained(folder.adapter, dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(folder.merged, dtype=torch.float32)
    with torch.no_grad():
        expected, given = tuned(input_ids=ids).logits, merged(input_ids=ids).logits
    assert torch.allclose(expected, given, atol=1e-4)
    found = read_json(folder.verification)["merged"]
    assert found["prompt_tokens_equal"] and found["stop_ids_equal"] and found["greedy_equal"] and found["passed"]
    assert found["max_abs_logit_difference"] < 1e-3
    assert not any(path.suffix in (".bin", ".pt", ".pkl") for path in folder.export.rglob("*"))


def test_a_merge_that_loses_the_adapter_does_not_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = told(finished.make(tmp_path))
    monkeypatch.setattr("luthier.models.lora.merge", lambda model: model.unload())
    with pytest.raises(GateError, match="merged"):
        run(folder)
    assert read_json(folder.verification)["merged"]["passed"] is False


def test_a_folder_whose_template_differs_does_not_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from luthier.kinds.causal_lm import model

    folder, write = told(finished.make(tmp_path)), model.write_merged

    def spoiled(*args: Any) -> None:
        write(*args)
        template = args[-1] / "chat_template.jinja"
        template.write_text(template.read_text().replace("<|im_start|>", "", 1))

    monkeypatch.setattr(model, "write_merged", spoiled)
    with pytest.raises(GateError):
        run(folder)
    assert read_json(folder.verification)["merged"]["prompt_tokens_equal"] is False


@pytest.mark.parametrize("architecture", ["bert", "mpnet"])
def test_a_sentence_model_is_merged_with_its_pooling_and_as_onnx(tmp_path: Path, architecture: str) -> None:
    from sentence_transformers import SentenceTransformer

    folder = told(sentence_run(tmp_path, architecture))
    run(folder, **{"export.onnx": architecture == "bert"})
    texts = ["software engineer", "registered nurse", "cook"]
    vectors = SentenceTransformer(str(folder.merged), device="cpu").encode(texts)
    assert vectors.shape == (3, 48)
    found = read_json(folder.verification)
    assert found["merged"]["min_cosine"] >= 0.99999
    assert "sentence-similarity" in folder.card.read_text()
    if architecture != "bert":
        return
    import onnxruntime

    tokenizer = AutoTokenizer.from_pretrained(folder.merged)
    given = tokenizer(texts, padding=True, return_tensors="np")
    session = onnxruntime.InferenceSession(str(folder.onnx / "model.onnx"), providers=["CPUExecutionProvider"])
    names = ("input_ids", "attention_mask")
    again = session.run(None, {name: given[name].astype(np.int64) for name in names})[0]
    assert np.allclose(again, vectors, atol=1e-4)
    assert found["onnx"]["passed"]


def test_the_card_holds_the_run_and_nothing_breaks_out_of_it(tmp_path: Path) -> None:
    hostile = "It | won [click](http://x) <script> `rm` \n# Title"
    folder = told(finished.make(tmp_path), sentence=hostile)
    run(folder)
    text = folder.card.read_text()
    _, head, body = text.split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["pipeline_tag"] == "text-generation"
    assert metadata["model-index"][0]["results"][0]["metrics"][0] == {
        "type": "rougeL",
        "value": 0.2,
        "name": "rougeL on held-out rows",
    }
    assert "| rougeL | 0.1 | 0.2 | +0.1 | +0.05 to +0.15 | improved |" in body
    assert "| found | 24 |" in body
    assert "<script>" not in body.replace("\\<script\\>", "")
    assert "\n# Title" not in body and not re.search(r"(?<!\\)\]\(http", body)
    first = folder.card.read_bytes()
    run(folder)
    assert folder.card.read_bytes() == first


def test_without_a_merged_model_the_card_stands_alone(tmp_path: Path) -> None:
    folder = told(finished.make(tmp_path))
    run(folder, **{"export.merged": False})
    assert not folder.merged.exists() and folder.card.is_file()
    assert read_json(folder.verification) == {}


def sentence_run(root: Path, architecture: str) -> RunFolder:
    """Make a run of an adapted encoder by hand."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    folder = RunFolder((root / "titles" / "2026-01-01T00-00-00").absolute())
    base = tiny.make(architecture, folder.path.parent / "base")
    titles = [{"title": title, "code": code} for code, title in enumerate(("cook", "chef", "nurse", "welder"))]
    source = folder.path.parent / "titles.jsonl"
    write_jsonl(source, titles)
    write_text(
        folder.recipe,
        f"name: titles\nkind: embedding\nmodel: {{base: {base}, dtype: float32}}\n"
        f"data: {{source: {source}, format: titles, fields: {{title: title, label: code}}, max_length: 16}}\n",
    )
    rows = [
        {"id": f"t{n}", "form": "title", "title": one["title"], "label": str(one["code"]), "labels": {}, "group": None}
        for n, one in enumerate(titles)
    ]
    for split in ("train", "test"):
        write_jsonl(folder.rows(split), [row | {"source": {"file": "t", "line": 1}} for row in rows])
    torch.manual_seed(0)
    targets = ["query", "value"] if architecture == "bert" else ["q", "v"]
    model = get_peft_model(AutoModel.from_pretrained(base), LoraConfig(r=2, target_modules=targets))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder.adapter)
    return folder
