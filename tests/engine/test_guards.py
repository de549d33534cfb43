"""What stops a training, and how."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from luthier.engine.guards import check_finite, check_validation, stoppable
from luthier.errors import StageError

IDS = [["a:1", "a:2"], ["b:7"]]


def test_finite_numbers_pass() -> None:
    check_finite(1, 1e-3, [1.0, 2.0], 3.0, IDS)
    check_validation(1, 1e-3, 2.0)


def test_only_the_guilty_rows_are_named() -> None:
    with pytest.raises(StageError, match=r"loss is nan at step 12, with learning rate 0\.002") as told:
        check_finite(12, 2e-3, [1.0, float("nan")], float("nan"), IDS)
    assert told.value.place == "rows b:7"
    assert "learning_rate" in told.value.remedy


def test_a_gradient_that_is_not_finite_names_all_rows_and_shortens_long_lists() -> None:
    with pytest.raises(StageError, match="gradient has norm inf") as told:
        check_finite(2, 1.0, [1.0], float("inf"), [[str(number) for number in range(20)]])
    assert told.value.place.endswith("15 and 4 more")


def test_at_step_one_the_learning_rate_is_not_to_blame() -> None:
    with pytest.raises(StageError) as told:
        check_finite(1, 1.0, [float("inf")], 1.0, [["a"]])
    assert "weights of the base model" in told.value.remedy


def test_a_validation_loss_that_is_not_finite_stops() -> None:
    with pytest.raises(StageError, match="validation loss is nan after step 3"):
        check_validation(3, 1.0, float("nan"))


def test_the_first_signal_asks_and_the_second_ends() -> None:
    told: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with stoppable(told.append) as stop:
        assert stop.signal is None
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        assert len(told) == 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        stop.raise_again()


def test_sigterm_ends_with_its_status() -> None:
    with stoppable(lambda _: None) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        stop.raise_again()
    assert ended.value.code == 143


def test_outside_the_main_thread_nothing_is_caught() -> None:
    seen = []

    def work() -> None:
        with stoppable(lambda _: None) as stop:
            stop.raise_again()
            seen.append(stop.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
