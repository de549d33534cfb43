"""A tiny folder of text and settings small enough to pre-train in a second."""

import json
import lzma
import random
from pathlib import Path

import pytest

PROSE = "the river ran under an old bridge while small boats carried grain and news from town to town"
WORDS = PROSE.split()


def write_folder(folder: Path, documents: int = 150) -> Path:
    """Documents of random sentences, half of the files compressed, and a few instruction rows."""
    rng = random.Random(7)

    def sentence() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(4, 12))).capitalize() + f" in {rng.randint(1000, 2000)}."

    texts = [f"Story {n}. " + " ".join(sentence() for _ in range(rng.randint(2, 9))) for n in range(documents)]
    folder.mkdir(parents=True, exist_ok=True)
    half = documents // 2
    (folder / "first.txt").write_text("\n\n<|endoftext|>\n\n".join(texts[:half]), encoding="utf-8")
    with lzma.open(folder / "second.txt.xz", "wt", encoding="utf-8") as file:
        file.write("\n\n<|endoftext|>\n\n".join(texts[half:]))
    rows = [{"instruction": f"Tell me about boat {n}.", "response": sentence()} for n in range(40)]
    rows.append({"instruction": "Seed", "instances": [{"input": "More", "output": "Answer"}]})
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return folder


FLAGS = (
    "--steps 8 --length 32 --last-length 64 --batch-tokens 256 --micro-tokens 128 --warmup 2 --decay-share 0.5 "
    "--last-share 0.25 --chat-share 0.5 --longest-chat 60 --hold-out 0.1 --log-every 1 --evaluate-every 4 "
    "--vocabulary 300 --hidden 32 --layers 2 --heads 4 --kv-heads 2 --feed-forward 64 --context 64"
)
TINY = FLAGS.split()


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny folder."""
    return write_folder(tmp_path_factory.mktemp("text"))
