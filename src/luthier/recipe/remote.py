"""The keys of a larger model that is asked over the network: where it is, how it is asked, what it may cost."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from luthier.recipe.section import ContradictionError, OffOr, Section


class Prices(Section):
    """What the teacher costs, for a million tokens, in the currency of the cap."""

    prompt: float = Field(0.0, ge=0, description="of what is sent")
    completion: float = Field(0.0, ge=0, description="of what is answered")


class Teacher(Section):
    """A larger model behind an OpenAI-compatible endpoint, for data and for the judge."""

    url: str = Field(min_length=1, description="base address, such as https://api.openai.com/v1")
    model: str = Field(min_length=1, description="its name there")
    key: Annotated[str | None, OffOr] = Field(
        "auto",
        pattern=r"^(auto|HF_TOKEN|[A-Z][A-Z0-9_]*_API_KEY)$",
        description="environment variable that holds the key; auto: that of a known service, else none; or off",
        json_schema_extra={"form": "a name such as OPENAI_API_KEY, never the key itself", "secret": True},
    )
    temperature: float = Field(0.7, ge=0, le=2, description="of its answers; the judge is always asked at 0")
    max_tokens: int = Field(512, ge=16, description="tokens of an answer at most")
    concurrency: int = Field(4, ge=1, le=256, description="requests at once")
    timeout: float = Field(120.0, gt=0, le=3600, description="seconds a request may take")
    tries: int = Field(5, ge=1, le=20, description="of one request, before it is given up")
    prices: Prices = Field(default_factory=Prices)
    cap: Annotated[float | None, OffOr] = Field(
        None, gt=0, description="what may be spent on this model in all, earlier runs counted, or off"
    )

    @model_validator(mode="after")
    def _cap_can_be_reached(self) -> Self:
        if self.cap is not None and not (self.prices.prompt or self.prices.completion):
            words = "A cap without prices is never reached"
            raise ContradictionError(words, "teacher.cap", "Give teacher.prices: {prompt: …, completion: …}.")
        return self

    def asking(self) -> dict[str, Any]:
        """Return how it is asked, as plain values."""
        return {
            "url": self.url,
            "model": self.model,
            "key": self.key,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "concurrency": self.concurrency,
            "timeout": self.timeout,
            "tries": self.tries,
        }

    def paying(self) -> dict[str, float | None]:
        """Return what it costs and may cost, as plain values."""
        return {"prompt": self.prices.prompt, "completion": self.prices.completion, "cap": self.cap}


class Judge(Section):
    """The teacher's opinion of base and tuned answers, beside the metrics and never among them."""

    criteria: dict[str, str] = Field(
        min_length=1, max_length=10, description="name of a criterion: what an answer that earns 10 of 10 does"
    )
    rows: int | None = Field(None, ge=1, description="judge so many test rows, drawn by the seed; all when absent")
