"""Progress: silent for two seconds, then how much is done and the time that is left."""

from __future__ import annotations

import io
import sys

import pytest

from sddp.display import progress
from sddp.display.progress import ProgressDisplay


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_where_standard_error_is_no_terminal(clock, capsys):
    display = ProgressDisplay(100, "row", done=20)
    clock[0] += 1.9
    display.update(30)
    assert capsys.readouterr().err == ""
    clock[0] += 0.1
    display.update(40)  # 20 rows in 2 s: 60 more take 6
    assert capsys.readouterr().err == "40 of 100 rows, about 6 s left\n"
    clock[0] += 3.0
    display.update(50)
    assert capsys.readouterr().err == ""
    clock[0] += 5.0
    display.update(40)  # what is done stays done
    assert capsys.readouterr().err == "50 of 100 rows, about 17 s left\n"


def test_nobody_knows_how_much_there_is(clock, capsys):
    display = ProgressDisplay(None, "iteration")
    clock[0] += 100.0
    display.update(7)
    assert capsys.readouterr().err == "7 iterations in 2 min\n"


def test_nothing_is_shown_where_it_is_not_wanted(clock, capsys):
    display = ProgressDisplay(10, "row", wanted=False)
    clock[0] += 100.0
    display.update(7)
    display.note("a word")
    display.close()
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    display = ProgressDisplay(10, "row")
    display.update(1)
    assert screen.getvalue() == ""
    clock[0] += 3.0
    display.update(5)
    display.close()
    assert "5/10" in screen.getvalue()
    assert "50%" in screen.getvalue()


def test_a_stream_that_is_closed_ends_nothing(clock, monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    display = ProgressDisplay(10, "row")
    clock[0] += 3.0
    display.update(5)
    display.close()
