"""Tiny models of every causal architecture Luthier serves: real transformers folders, random weights, no network.

`make("llama", folder)` takes well under a second. `python tests/tiny.py llama FOLDER` makes one by hand.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

CAUSAL = ("llama", "qwen2", "falcon", "phi3", "mistral", "gpt2")
ENCODERS = ("mpnet", "bert")
CONTEXT = 512
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SENTENCES = (
    "You are an interview coach. Answer the question in plain words.",
    "What is overfitting? A model that fits the training data and fails on new data overfits.",
    "How does dropout help? It removes random units in training, so that no unit relies on another.",
    "Explain the bias and the variance of a model, and name one way to lower each of them.",
    "Why do we split data into training, validation and test sets? To measure what was not learned by heart.",
    "user assistant system: gradient descent moves the weights against the gradient of the loss.",
    "The learning rate says how far each step goes; too far and the loss rises, too short and nothing moves.",
    'What is the capital of France? Paris. 0 1 2 3 4 5 6 7 8 9 (yes, no) [list] {set} "quoted" it\'s',
)


@cache
def _tokenizer_json() -> str:
    """Return a byte-level BPE of at most 600 entries, trained on the sentences, as tokenizer.json."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return str(tokenizer.to_str())


def tokenizer(chat_template: bool = True) -> Any:
    """Return the tokenizer: pad `<|pad|>`, eos `<|im_end|>`, ChatML with generation markers unless told otherwise."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_tokenizer_json()),
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>"],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    if chat_template:
        made.chat_template = CHATML
    return made


def config(architecture: str, vocabulary: int) -> Any:
    """Return the configuration of a tiny model: hidden 48, 2 layers, 4 heads, context 512, no dropout."""
    import transformers as t

    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 3}
    shape: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        **ids,
    }
    modern: dict[str, Any] = {**shape, "intermediate_size": 96, "num_key_value_heads": 2}
    encoder: dict[str, Any] = {**shape, "intermediate_size": 96, "hidden_dropout_prob": 0.0}
    encoder["attention_probs_dropout_prob"] = 0.0
    if architecture == "llama":
        return t.LlamaConfig(**modern, tie_word_embeddings=True)
    if architecture == "qwen2":
        return t.Qwen2Config(**modern, tie_word_embeddings=True)
    if architecture == "mistral":
        return t.MistralConfig(**modern, sliding_window=None)
    if architecture == "phi3":
        return t.Phi3Config(**modern, sliding_window=None, original_max_position_embeddings=CONTEXT)
    if architecture == "falcon":
        return t.FalconConfig(**shape, alibi=True, bias=True, multi_query=False, parallel_attn=False)
    if architecture == "gpt2":
        return t.GPT2Config(
            vocab_size=vocabulary, n_embd=48, n_layer=2, n_head=4, n_positions=CONTEXT,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **ids,
        )  # fmt: skip
    if architecture == "mpnet":
        return t.MPNetConfig(**encoder)
    if architecture == "bert":
        return t.BertConfig(**encoder)
    raise ValueError(f"no tiny {architecture!r}; there are {', '.join(CAUSAL + ENCODERS)}")


def make(architecture: str, folder: Path | str, seed: int = 0, chat_template: bool = True) -> Path:
    """Write a tiny model of `architecture` into `folder` and return the folder.

    Args:
        architecture: one of `CAUSAL` or `ENCODERS`.
        folder: is created; files of the same names are overwritten.
        seed: of the random float32 weights.
        chat_template: False leaves the tokenizer without a template, as many base models are.
    """
    import torch
    import transformers as t

    folder = Path(folder)
    words = tokenizer(chat_template)
    made = config(architecture, len(words))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if architecture in CAUSAL:
            model = t.AutoModelForCausalLM.from_config(made, dtype=torch.float32)
        else:
            model = t.AutoModel.from_config(made, dtype=torch.float32)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    print(make(sys.argv[1], sys.argv[2]))
