"""Encoding once: what is kept comes back, nothing else does, damage is mended, and memory stays mapped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from luthier.data.columns import Columns, pack
from luthier.data.rows import Row
from luthier.errors import UserError
from luthier.kinds import kind_named
from luthier.kinds import remembered as module
from luthier.kinds.causal_lm import rows as causal
from luthier.kinds.causal_lm.rows import Example
from luthier.kinds.remembered import remembered
from tests.tiny import tokenizer

KIND = kind_named("causal-lm")


def rows(count: int = 6, words: str = "It is so") -> list[Row]:
    return [
        Row(
            f"é:{number}",
            "chat",
            {
                "messages": [
                    {"role": "user", "content": f"Why {number}?"},
                    {"role": "assistant", "content": f"{words} {number}"},
                ]
            },
            "q.jsonl",
            number + 1,
        )
        for number in range(count)
    ]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the number of rows of each call to the kind's own encode."""
    made: list[int] = []
    plain = causal.encode

    def watched(given: Any, *rest: Any) -> Any:
        made.append(len(given))
        return plain(given, *rest)

    monkeypatch.setattr(causal, "encode", watched)
    return made


def kept(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def test_a_second_call_does_not_tokenise(tmp_path: Path, calls: list[int]) -> None:
    words = tokenizer()
    long = rows(1, "so " * 60)
    given = [
        *rows(),
        Row("long", "chat", long[0].content, "q.jsonl", 9),
        Row("odd", "text", {"text": "<|im_end|>"}, "q.jsonl", 10),
    ]
    plain = causal.encode(given, words, 40)
    calls.clear()
    first = remembered(KIND, tmp_path).encode(given, words, 40)
    again = remembered(KIND, tmp_path).encode(given, tokenizer(), 40)
    assert calls == [8]
    assert plain.truncated == ["long"]
    assert [name for name, _ in plain.dropped] == ["odd"]
    for one in (first, again):
        assert isinstance(one.examples, Columns), "the first one is read from the disk too"
        assert list(one.examples) == plain.examples
        assert (one.truncated, one.dropped, one.lengths, one.notes) == (
            plain.truncated, plain.dropped, plain.lengths, plain.notes
        )  # fmt: skip
    assert KIND.rows.prove_mask(given, again, words) == KIND.rows.prove_mask(given, plain, words)
    assert kept(tmp_path).name.startswith("causal-lm-")


def test_anything_that_decides_the_encoding_makes_it_anew(
    tmp_path: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = remembered(KIND, tmp_path)
    reader.encode(rows(), tokenizer(), 40)
    other_template = tokenizer()
    other_template.chat_template += "{# the same words #}"
    more_tokens = tokenizer()
    more_tokens.add_tokens(["It is"])
    for given, words, length in (
        (rows(), tokenizer(), 41),
        (rows(7), tokenizer(), 40),
        (rows(words="It was so"), tokenizer(), 40),
        (rows()[::-1], tokenizer(), 40),
        (rows(), other_template, 40),
        (rows(), more_tokens, 40),
    ):
        before = len(calls)
        reader.encode(given, words, length)
        assert len(calls) == before + 1, (length, words)
    monkeypatch.setattr(module, "digest_code", lambda part: f"other {part}")
    before = len(calls)
    reader.encode(rows(), tokenizer(), 40)
    assert len(calls) == before + 1, "Luthier's own code changed"


@pytest.mark.parametrize("harm", ["truncated", "flipped", "no marker", "torn marker", "empty"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, calls: list[int], harm: str) -> None:
    reader, words = remembered(KIND, tmp_path), tokenizer()
    whole = list(reader.encode(rows(), words, 40).examples)
    path = kept(tmp_path)
    data, marker = path.read_bytes(), path.with_suffix(".json")
    path.unlink()
    if harm == "truncated":
        path.write_bytes(data[:-7])
    elif harm == "flipped":
        path.write_bytes(data[:-7] + bytes([data[-7] ^ 1]) + data[-6:])
    elif harm == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(data)
        marker.write_text('{"sha256": "') if harm == "torn marker" else marker.unlink()
    assert list(reader.encode(rows(), words, 40).examples) == whole
    assert len(calls) == 2
    assert path.read_bytes() == data
    reader.encode(rows(), words, 40)
    assert len(calls) == 2


def test_errors_are_not_kept(tmp_path: Path) -> None:
    reader = remembered(KIND, tmp_path)
    for _ in range(2):
        with pytest.raises(UserError, match="No row fits"):
            reader.encode(rows(), tokenizer(), 8)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_keeps_nothing(tmp_path: Path, calls: list[int]) -> None:
    (tmp_path / "file").write_text("")
    reader = remembered(KIND, tmp_path / "file" / "tokens")
    for _ in range(2):
        assert len(reader.encode(rows(), tokenizer(), 40).examples) == 6
    assert len(calls) == 2


def test_what_was_not_used_for_longest_goes_first(
    tmp_path: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, words = remembered(KIND, tmp_path), tokenizer()
    for place, length in enumerate((40, 41, 42)):
        reader.encode(rows(), words, length)
        newest = max(tmp_path.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (1000 + place, 1000 + place))
    reader.encode(rows(), words, 40)  # used again
    size = newest.stat().st_size
    monkeypatch.setattr(module, "LIMIT", int(2.5 * size))
    reader.encode(rows(), words, 43)
    assert len(list(tmp_path.glob("*.safetensors"))) == len(list(tmp_path.glob("*.json"))) == 2
    calls.clear()
    reader.encode(rows(), words, 43)
    reader.encode(rows(), words, 40)
    assert calls == []


def test_many_examples_stay_on_the_disk(tmp_path: Path) -> None:
    """100,000 examples of 64 tokens: 51 MB of arrays, of which no more than the offsets come into memory."""
    count, length = 100_000, 64
    one = Example("row:0", list(range(length)), [-100] * 32 + list(range(32, length)))
    arrays = pack([one], Example)
    import numpy as np

    names = "".join(f"row:{number:05d}" for number in range(count)).encode()
    many = {
        "id": np.frombuffer(names, dtype=np.uint8),
        "id.offsets": np.arange(count + 1, dtype=np.int64) * 9,
        **{name: np.tile(arrays[name], count) for name in ("input_ids", "labels")},
        **{f"{name}.offsets": np.arange(count + 1, dtype=np.int64) * length for name in ("input_ids", "labels")},
    }
    assert many.keys() == arrays.keys()
    save_file(many, tmp_path / "many.safetensors")
    del many
    before = anonymous()
    read = Columns(tmp_path / "many.safetensors", Example, count)
    assert read[99_999] == Example("row:99999", one.input_ids, one.labels)
    assert sum(len(example.input_ids) for example in read) == count * length
    assert anonymous() - before < 12_000, "KiB"


def anonymous() -> int:
    """Return the memory of this process that no file backs, in KiB."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("the system does not tell")
    return int(next(line for line in status.read_text().splitlines() if line.startswith("RssAnon")).split()[1])
