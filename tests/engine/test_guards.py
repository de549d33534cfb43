"""The detectors: what they find, what they leave alone, and what is decided."""

from __future__ import annotations

import math
import random
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson
import pytest

from luthier.engine import guards
from luthier.engine.guards import Estimate, Event, GuardSettings, Seen, Standing


def seen(step: int, loss: float = 2.0, norm: float = 1.0, **more: Any) -> Seen:
    return Seen(step, 1e-3, loss, norm, **{"rows": ("a:1", "a:2"), **more})


def calm(steps: int = 40, level: float = 2.0, noise: float = 0.3, seed: int = 0) -> Standing:
    """Return the standing after an ordinary training of so many steps."""
    draw, standing = random.Random(seed), Standing()
    for step in range(1, steps + 1):
        one = seen(step, abs(draw.gauss(level, noise)), math.exp(draw.gauss(0, 0.4)))
        assert guards.look(standing, one) is None
        guards.take_in(standing, one)
    return standing


def test_the_estimate_is_the_weighted_mean_and_variance_of_all_values() -> None:
    """Against the definition: every value with the weight that it has after all later ones."""
    draw = np.random.default_rng(0)
    values, estimate = draw.normal(3, 2, 200), Estimate()
    weights: list[float] = []
    for count, value in enumerate(values, 1):
        estimate.add(float(value))
        own = max(1 / count, 1 - guards.DECAY)
        weights = [one * (1 - own) for one in weights] + [own]
    assert sum(weights) == pytest.approx(1)
    mean = float(np.average(values, weights=weights))
    assert estimate.mean == pytest.approx(mean)
    assert estimate.variance == pytest.approx(float(np.average((values - mean) ** 2, weights=weights)))


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf)])
def test_what_is_not_finite_is_found_at_once(loss: float, norm: float) -> None:
    event = guards.look(Standing(), seen(1, loss, norm))
    assert event is not None
    assert event.what == ("non-finite loss" if not math.isfinite(loss) else "non-finite gradient")
    assert event.rows == ("a:1", "a:2")


def test_the_float16_scaler_may_look_for_its_scale_for_a_while() -> None:
    standing = Standing()
    for step in range(1, guards.OVERFLOWS + 1):
        one = seen(step, norm=math.inf, scale=2.0**16)
        assert guards.look(standing, one) is None
        guards.take_in(standing, one)
    event = guards.look(standing, seen(99, norm=math.inf, scale=2.0**16))
    assert event is not None
    assert event.what == "non-finite gradient"


def test_a_spike_is_found_and_a_hard_batch_is_not() -> None:
    standing = calm()
    assert guards.look(standing, seen(41, 3.4)) is None
    event = guards.look(standing, seen(41, 9.0))
    assert event is not None
    assert (event.what, event.value) == ("loss spike", 9.0)
    assert 4.0 < event.threshold < 7.0


def test_a_hard_row_late_in_a_training_is_no_spike() -> None:
    """The loss has fallen to 0.02; a row that was never learned has what it had at the start."""
    standing = calm()
    for step in range(41, 241):
        guards.take_in(standing, seen(step, 0.02 + 0.001 * (step % 3)))
    assert guards.look(standing, seen(241, 2.2)) is None
    assert guards.look(standing, seen(241, 5.0)) is not None


def test_before_there_is_an_estimate_there_is_no_spike() -> None:
    assert guards.look(calm(guards.SETTLED - 1), seen(20, 50.0, 1e6)) is None


def test_an_exploding_gradient_is_found() -> None:
    event = guards.look(calm(), seen(41, norm=500.0))
    assert event is not None
    assert event.what == "gradient explosion"
    assert guards.look(calm(), seen(41, norm=15.0)) is None


@pytest.mark.parametrize(("chance", "what"), [(3.0, "runaway logits"), (6.4, "divergence")])
def test_a_slow_rise_that_the_estimate_follows_is_found(chance: float, what: str) -> None:
    standing, loss = calm(), 2.0
    for step in range(41, 600):
        one = seen(step, loss := loss * 1.01, chance=chance)
        event = guards.look(standing, one)
        if event is not None:
            assert event.what == what
            assert event.value < 11
            return
        guards.take_in(standing, one)
    raise AssertionError("not found")


def test_runaway_logits_are_found_before_the_estimates_have_settled() -> None:
    standing = Standing()
    for step, loss in enumerate([6.0, 20.0, 60.0], 1):
        guards.take_in(standing, seen(step, loss, chance=6.4))
    event = guards.look(standing, seen(4, 80.0, chance=6.4))
    assert event is not None
    assert event.what == "runaway logits"


def test_weights_that_do_not_move_are_found() -> None:
    standing = calm()
    assert guards.look(standing, seen(50, sample=b"one")) is None
    guards.take_in(standing, seen(50, sample=b"one"))
    assert guards.look(standing, seen(100, sample=b"two")) is None
    event = guards.look(standing, seen(100, sample=b"one"))
    assert event is not None
    assert guards.decide(standing, event, GuardSettings()) == "stop"
    assert "learning_rate" in guards.diagnosis(standing, event).remedy


@pytest.mark.parametrize("shown", [{"scale": 0.5}, {"zeros": 0.8}])
def test_underflow_is_told_once(shown: dict[str, float]) -> None:
    standing = calm()
    event = guards.look(standing, seen(41, **shown))
    assert event is not None
    assert guards.decide(standing, event, GuardSettings()) == "tell"
    guards.note(standing, event, "tell")
    assert guards.look(standing, seen(42, **shown)) is None
    assert guards.look(calm(), seen(41, scale=2.0**16, zeros=0.1)) is None


def test_with_the_guards_off_only_what_is_not_finite_is_found() -> None:
    assert guards.look(calm(), seen(41, 50.0, 1e6), everything=False) is None
    assert guards.look(calm(), seen(41, math.nan), everything=False) is not None


@pytest.mark.parametrize("seed", range(20))
def test_ordinary_trainings_are_left_alone(seed: int) -> None:
    """Falling losses with heavy tails, as single rows have, and norms that wander: no event in 2,000 steps."""
    draw, standing = np.random.default_rng(seed), Standing()
    for step in range(1, 2001):
        level = 0.3 + 2.0 * math.exp(-step / 400)
        one = seen(step, level * draw.lognormal(0, 0.5), 0.5 * draw.lognormal(0.3 * math.sin(step / 100), 0.5))
        assert guards.look(standing, one) is None
        guards.take_in(standing, one)


SPIKE = Event("loss spike", 60, 9.0, 4.0, ("a:1",), 1e-3)
NAN = Event("non-finite loss", 60, math.nan, math.inf, ("a:1",), 1e-3)
RUNAWAY = Event("runaway logits", 60, 19.0, 9.0, ("a:1",), 1e-3)


@pytest.mark.parametrize(
    ("event", "settings", "left_out", "returns", "more", "action"),
    [
        (NAN, GuardSettings(), [], 0, {}, "skip"),
        (SPIKE, GuardSettings(), [], 0, {}, "skip"),
        (SPIKE, GuardSettings(on_spike="return"), [], 0, {}, "return"),
        (NAN, GuardSettings(on_nonfinite="stop"), [], 0, {}, "stop"),
        (NAN, GuardSettings(), [55, 58], 0, {}, "return"),
        (NAN, GuardSettings(), [1, 2], 0, {}, "skip"),
        (NAN, GuardSettings(), [55, 58], 3, {}, "stop"),
        (NAN, GuardSettings(returns=0), [55, 58], 0, {}, "stop"),
        (NAN, GuardSettings(), [], 0, {"broken": True}, "stop"),
        (NAN, GuardSettings(), [], 0, {"lost": True}, "return"),
        (RUNAWAY, GuardSettings(), [], 0, {}, "return"),
        (RUNAWAY, GuardSettings(), [], 3, {}, "stop"),
    ],
)
def test_what_is_decided(
    event: Event, settings: GuardSettings, left_out: list[int], returns: int, more: dict[str, bool], action: str
) -> None:
    standing = calm()
    standing.left_out, standing.returns = left_out, returns
    assert guards.decide(standing, event, settings, **more) == action


def test_where_nothing_was_learned_going_back_is_no_help() -> None:
    standing = Standing(left_out=[58, 59])
    assert guards.decide(standing, NAN, GuardSettings()) == "stop"
    assert "weights of the base model" in guards.diagnosis(standing, NAN).remedy


def test_going_back_keeps_what_happened_and_leaves_the_guilty_steps_out() -> None:
    standing, earlier = calm(), calm(10)
    standing.left_out, standing.skip = [57, 58], [30]
    guards.note(standing, NAN, "return")
    back = guards.go_back(standing, earlier)
    assert (back.skip, back.left_out, back.returns) == ([30, 57, 58, 60], [], 1)
    assert [line["step"] for line in back.events] == [60]
    assert back.loss == calm(10).loss
    guards.note(standing, RUNAWAY, "return")
    assert guards.go_back(standing, calm(10)).skip == [30, 57, 58], "no single batch is guilty of a runaway"


def test_the_standing_survives_a_checkpoint() -> None:
    standing = calm()
    guards.note(standing, NAN, "skip")
    assert Standing(**orjson.loads(orjson.dumps(asdict(standing)))) == standing


def test_a_diagnosis_says_what_when_where_and_what_to_do() -> None:
    standing = calm()
    guards.note(standing, Event("non-finite loss", 44, math.inf, math.inf, ("b:1",), 1e-3), "skip")
    standing.returns = 2
    rows = tuple(str(number) for number in range(20))
    told = guards.diagnosis(standing, Event("non-finite loss", 60, math.nan, math.inf, rows, 2e-3))
    assert "The loss is nan at step 60, and before at step 44, with learning rate 0.002." in told.problem
    assert "Going back 2 times" in told.problem
    assert told.place.endswith("15 and 4 more")
    assert "learning_rate" in told.remedy
    assert "lm_head.weight" in guards.diagnosis(standing, NAN, "lm_head.weight").remedy
