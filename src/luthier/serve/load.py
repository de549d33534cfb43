"""The model of a run, ready to answer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import UserError
from luthier.run.folder import RunFolder, find_run

if TYPE_CHECKING:
    from luthier.models.engines import TransformersAnswerer
    from luthier.serve.vectors import RunVectors

Message = Mapping[str, str]
# What a kind gives for a text: "module:class" of what opens its runs.
DOORS = {"words": "luthier.serve.load:RunModel", "vectors": "luthier.serve.vectors:RunVectors"}


class RunModel:
    """Base and tuned model of one run that answers in words. Weights are loaded with the first answer.

    Args:
        folder: the run; its recipe.yaml names the base, 4-train/adapter holds what was trained.

    Attributes:
        name: `<recipe name>/<id>`. system: the recipe's system message, None where it has none.
        max_new_tokens: of an answer, as the recipe evaluates.

    Raises:
        UserError: the run's recipe or the base's tokenizer cannot be read.
    """

    def __init__(self, folder: RunFolder) -> None:
        from luthier.engine.threads import use_cores
        from luthier.kinds import kind_named
        from luthier.models.bases import resolve
        from luthier.models.pair import Pair
        from luthier.recipe.load import load_recipe

        use_cores()
        recipe = load_recipe(folder.recipe).recipe
        kind, base = kind_named(recipe.kind), resolve(recipe.model.base)
        self.folder = folder
        self.name = f"{recipe.name}/{folder.id}"
        self.system = recipe.model.system
        self.max_new_tokens = recipe.evaluation.max_new_tokens
        self.prompt_field = recipe.data.fields.get("prompt")
        self.tokenizer, _ = kind.model.load_tokenizer(base)
        self._rows: Any = kind.rows
        self._ends = kind.rows.end_ids(self.tokenizer)
        self._pair = Pair(
            lambda: kind.model.load_base(base, recipe.model.dtype, recipe.adapter.method),
            folder.adapter,
        )

    @contextmanager
    def answering(self, base: bool = False) -> Iterator[TransformersAnswerer]:
        """Lend what answers: the tuned model, or the base.

        Raises:
            UserError: the run has not been trained, or the base is not at hand.
        """
        from luthier.models.engines import TransformersAnswerer

        with self._pair.base() if base else self._pair.tuned() as model:
            yield TransformersAnswerer(model, int(self.tokenizer.pad_token_id or 0), self._ends)

    def conversation(self, prompt: str) -> list[Message]:
        """Return a question as the conversation that was trained on: the recipe's system message before it."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": prompt}]

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of a conversation that the model is to go on with.

        Raises:
            UserError: the template does not take the conversation.
        """
        ids: list[int] = self._rows.chat_prompt(messages, self.tokenizer)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of an answer."""
        from luthier.models.engines import decode

        return decode(self.tokenizer, ids).strip()

    def answer(
        self,
        prompts: Sequence[str],
        *,
        base: bool = False,
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[str]:
        """Answer each prompt, in order, as a conversation of its own.

        Args:
            prompts: none empty. base: let the base answer instead of the tuned model.
            max_new_tokens: of each answer (default: what the recipe evaluates with).
            temperature: 0 is greedy, the default. top_p, seed: of sampling; see `models.engines.Sampling`.

        Raises:
            UserError: one text instead of a list, an empty prompt or one too long for the model, settings out of range.
        """
        from luthier.models.engines import Sampling

        if isinstance(prompts, str):
            raise UserError("answer takes a list of prompts, not one text.", "", 'Write: answer(["…"])')
        encoded = []
        for place, prompt in enumerate(prompts):
            if not isinstance(prompt, str) or not prompt.strip():
                raise UserError("A prompt is empty or no text.", f"prompts[{place}]", "Leave it out.")
            encoded.append(self.encode(self.conversation(prompt)))
        limit = self.max_new_tokens if max_new_tokens is None else max_new_tokens
        with self.answering(base) as answerer:
            for place, ids in enumerate(encoded):
                if problem := too_long(answerer, len(ids)):
                    raise UserError(problem, f"prompts[{place}]", "Shorten it.")
            generated = answerer.answer(encoded, limit, Sampling(temperature, top_p, seed))
        return [self.decode(one.ids) for one in generated]


def load(named: str, runs: Path | str | None = None) -> RunModel | RunVectors:
    """Load the model of a run: `luthier.load("interviewmate/latest").answer(["…"])`.

    What it answers with is the kind's: strings, or vectors [texts, dimensions].

    Args:
        named: a run: path, `<recipe name>/latest`, `<recipe name>/<id>`, or an id.
        runs: the folder of all runs (default: $LUTHIER_RUNS, else `runs`).

    Raises:
        UserError: there is no such run, or it has not been trained.
    """
    return open_run(find_run(named, Path(runs or os.environ.get("LUTHIER_RUNS", "runs"))))


def open_run(folder: RunFolder) -> RunModel | RunVectors:
    """Return the model of a run folder, as what its kind gives.

    Raises:
        UserError: nothing has been trained in it.
    """
    if not (folder.adapter).is_dir():
        raise UserError(
            "This run has no trained model yet.", str(folder.path), f"Run: luthier train {folder.path.parent.name}"
        )
    from luthier.kinds import kind_named
    from luthier.recipe.load import load_recipe

    gives = kind_named(load_recipe(folder.recipe).recipe.kind).model.GIVES
    module, _, name = DOORS[gives].partition(":")
    opened: RunModel | RunVectors = getattr(import_module(module), name)(folder)
    return opened


def speaking(folder: RunFolder) -> RunModel:
    """Return the model of a run folder that answers in words.

    Raises:
        UserError: nothing has been trained in it, or it gives vectors.
    """
    opened = open_run(folder)
    if not isinstance(opened, RunModel):
        raise UserError(f"{opened.name} gives vectors, not words.", str(folder.path), "Name a run of a language model.")
    return opened


def too_long(answerer: TransformersAnswerer, tokens: int) -> str:
    """Say that a prompt fills the model's context; "" when there is room for an answer."""
    if answerer.room(tokens, 1) > 0:
        return ""
    return f"The prompt has {tokens} tokens with its template, and the model has room for {answerer.context}."
