"""The page of a running portfolio: what it shows, over HTTP and as a file."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from sddp.backtest.trading.events import TradingHalted, TriggerFired
from sddp.errors import ModelError
from sddp.live.alerts import AlertRule, Alerts
from sddp.live.analytics import Analytics
from sddp.live.dashboard import MOST_POINTS, Dashboard, texts
from sddp.live.dashboard_figures import weights_svg
from sddp.live.observers import ProcessedRow
from sddp.market.market import Market

HOSTILE = "<script>alert('$x_1$')</script>"
NS = {"svg": "http://www.w3.org/2000/svg"}


def running(n_rows=40, name=HOSTILE):
    """A dashboard after some rows of an account in two assets, one with a hostile name."""
    analytics = Analytics(window=20)
    alerts = Alerts(analytics, [AlertRule(name=f"fall of {name}", figure="wealth", above=0.0)])
    board = Dashboard(analytics, alerts, title=f"Portfolio of {name}")
    for row in range(n_rows):
        observe(board, row, name, halted=row == n_rows - 1)
    return board


def observe(board, row, name=HOSTILE, *, halted=False):
    """Show a row to a dashboard, and to what stands before it."""
    rng = np.random.default_rng(1)
    dates = pd.bdate_range("2021-01-04", periods=100)
    moves = 1.0 + rng.normal(0.0, 0.02, (100, 2))
    market = Market(pd.DataFrame(np.cumprod(moves, axis=0), index=dates, columns=[name, "land"]))
    told = [TriggerFired(time=dates[row], trigger=f"Drift of {name}", reason="", figures={})]
    if halted:
        told.append(TradingHalted(time=dates[row], reason=f"too wild, {name}", figures={}))
    decision = SimpleNamespace(weights=pd.Series([0.2, 0.5, 0.3]))
    holdings = np.array([200.0, 500.0, 300.0 + row])
    account = SimpleNamespace(assets=[name, "land"], holdings=holdings, decision=decision)
    done = ProcessedRow(account, market.at(dates[row]), told, seconds=0.002)
    for observer in (board._analytics, board._alerts, board):
        observer.observe(done)


@pytest.fixture(scope="module")
def board():
    return running()


def get(address, **headers):
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as answer:
        return answer.status, dict(answer.headers), answer.read().decode()


def test_the_page_shows_the_figures_and_escapes_names(board):
    page = board.page()
    figures = board.shown().figures
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    for name, text in texts(figures).items():
        found = re.search(rf'id="{name}"[^>]*>([^<]*)<', page)
        assert found, name
        assert found[1].replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">") == text
    assert texts(figures)["wealth"] == "1,039.00"
    assert texts(figures)["halted"].startswith("halted, too wild")


def test_the_file_is_self_contained(board, tmp_path):
    page = board.write(tmp_path / "page.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 4
    assert "<script" not in page
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(address.startswith("data:") for address in addresses)


def test_the_server_answers_on_the_loopback_alone_and_tells_changes(board):
    with board.served(0) as address:
        assert address.startswith("http://127.0.0.1:")
        status, headers, page = get(address)
        assert status == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        assert 'src="page.js"' in page
        for name in ("page.js", "page.css", *board.pictures()):
            assert get(address + name + ("" if "." in name else ".svg"))[0] == 200
        with urllib.request.urlopen(address + "events", timeout=20) as stream:
            assert stream.readline() == b"event: figures\n"
            told = json.loads(stream.readline().removeprefix(b"data: "))
        assert told["texts"] == texts(board.shown().figures)
        assert told["halted"] is True
        for request in (
            urllib.request.Request(address, headers={"Host": "elsewhere.example"}),
            urllib.request.Request(address, method="POST"),
            urllib.request.Request(address + "unknown.svg"),
        ):
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(request)
    with pytest.raises(urllib.error.URLError):
        get(address)


def test_a_port_in_use_is_named(board):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ModelError, match=f"port={port}"), board.served(port):
            pass


def test_figures_are_drawn_at_most_every_ten_seconds(board, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("sddp.live.dashboard.time.monotonic", lambda: clock[0])
    board._drawn_at = -1e9
    first = board.pictures()
    # Longer where a drawing takes longer than a fortieth of that.
    assert board._draw_every >= 10.0
    clock[0] += board._draw_every - 0.1
    assert board.pictures() is first
    clock[0] += 0.2
    again = board.pictures()
    assert again is not first
    assert again["weights-figure"] == first["weights-figure"]  # the same bytes for the same numbers


def test_bars_have_the_names_of_their_positions():
    one, other = (weights_svg({name: 0.5, "cash": 0.5}, {}) for name in ("coin", "$x_1$"))
    assert one != other
    assert one == weights_svg({"coin": 0.5, "cash": 0.5}, {})


def test_a_long_run_keeps_few_points():
    board = running(n_rows=3, name="coin")
    done = SimpleNamespace(
        time=pd.Timestamp("2021-01-04"),
        seconds=0.0,
        account=SimpleNamespace(holdings=np.ones(3)),
    )
    for _ in range(10 * MOST_POINTS):
        board.observe(done)
    assert MOST_POINTS <= len(board.shown().wealth) <= 2 * MOST_POINTS


def test_before_the_first_row_the_page_stands():
    analytics = Analytics()
    board = Dashboard(analytics, Alerts(analytics))
    assert "no row yet" in board.page()
    assert board.pictures() == {}
