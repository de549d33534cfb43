"""How a training is stopped from outside."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from luthier.engine.interrupt import stoppable


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


def test_a_first_signal_that_comes_after_another_processs_is_not_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    with stoppable(told.append) as stop:
        stop.signal, stop.agreed = signal.SIGTERM, True  # as `together.agree` passes it on
        os.kill(os.getpid(), signal.SIGTERM)
        assert not told
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)


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
