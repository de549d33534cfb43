"""Making a base's tokenizer ready for training: padding, end of text, and a chat template where it has none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from luthier.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHATML = Path(__file__).with_name("chatml.jinja")
CHATML_END = "<|im_end|>"
# Dedicated padding first. What pads is never trained on: labels, not ids, say what is.
PADDING = ("<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|padding|>", "<|endoftext|>", "<unk>")
ENDINGS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>")


def ready_tokenizer(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Give `tokenizer` what training needs, in place, without growing its vocabulary.

    - No end-of-text token: the first of `ENDINGS` that its vocabulary holds.
    - No padding token: the first of `PADDING` that it holds and that does not end a text, else the end-of-text token.
    - No chat template: ChatML. A turn ends with `<|im_end|>` where that is one token of the vocabulary, else with the
      end-of-text token: a new token would need a new, untrained row of the embedding, which an adapter cannot train.

    A second call changes nothing.

    Returns:
        What was done, one sentence each; empty when the tokenizer was ready.

    Raises:
        UserError: there is no token that could end a text.
    """
    done: list[str] = []
    vocabulary = tokenizer.get_vocab()
    if tokenizer.eos_token is None:
        ending = next((word for word in ENDINGS if word in vocabulary), None)
        if ending is None:
            raise UserError(
                "The tokenizer has no end-of-text token, so a model trained with it would never stop.",
                str(tokenizer.name_or_path),
                "Set eos_token in its tokenizer_config.json, or choose another base.",
            )
        tokenizer.eos_token = ending
        done.append(f"no end-of-text token: {ending} is used")
    if tokenizer.pad_token is None:
        free = (word for word in PADDING if word in vocabulary and word != tokenizer.eos_token)
        tokenizer.pad_token = next(free, tokenizer.eos_token)
        done.append(f"no padding token: {tokenizer.pad_token} is used; padding is never trained on")
    if not tokenizer.chat_template:
        ending = CHATML_END if CHATML_END in vocabulary else str(tokenizer.eos_token)
        tokenizer.chat_template = default_template(ending)
        done.append(f"no chat template: ChatML is used, a turn ends with {ending}; it is saved with the adapter")
    return done


def default_template(ending: str) -> str:
    """Return the ChatML template whose turns end with the token `ending`."""
    quoted = ending.replace("\\", "\\\\").replace("'", "\\'")
    return CHATML.read_text(encoding="utf-8").strip().replace("end_of_turn", f"'{quoted}'")
