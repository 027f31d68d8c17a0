"""Today's decision in words, as JSON and as a page, by hand-made decisions."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from sddp.backtest.today import TodaysDecision
from sddp.cli.output import as_json
from sddp.cli.results import decision_page, decision_report

ODD = '<b>A&B</b> 100 % of "x" 🙂'


def decision(**changes) -> TodaysDecision:
    """1,000 in cash and 1,000 in one fund; 500 of it is sold, 900 of the other bought."""
    orders = pd.DataFrame(
        {
            "price": [10.0, 5.0],
            "shares": [100.0, 0.0],
            "held": [1_000.0, 0.0],
            "trade_shares": [-50.0, 180.0],
            "trade": [-500.0, 900.0],
            "cost": [0.5, 0.9],
            "after_shares": [50.0, 180.0],
            "after": [500.0, 900.0],
            "weight": [0.25, 0.45],
        },
        index=pd.Index([ODD, "plain"], name="asset"),
    )
    made = TodaysDecision(
        date=pd.Timestamp("2024-05-03"),
        orders=orders,
        cash_before=1_000.0,
        cash_after=598.6,
        belief=pd.Series([0.75, 0.25], index=["regime 1", "regime 2"]),
        regimes=pd.DataFrame(
            {"mean": [0.01, -0.02], "volatility": [0.02, 0.05]}, index=["regime 1", "regime 2"]
        ),
        cvar_before=0.02,
        cvar_after=0.03,
        cvar_limit=0.03,
        cvar_confidence=0.9,
        limit_price=400.0,
        value=2_100.0,
        best_value=2_100.0,
        cash_value=2_010.0,
        value_without_trading=2_080.0,
        n_stages=12,
        period=5,
    )
    return replace(made, **changes)


def said(**changes) -> str:
    return " ".join(decision_report.text(decision(**changes), ["a note"], 80).split())


def test_what_follows_from_the_numbers():
    made = decision()
    assert (made.wealth, made.cost, made.expected_gain) == (2_000.0, 1.4, 100.0)
    assert made.given_up == 20.0
    assert decision_report.given_up_share(made) == pytest.approx(0.2)


def test_in_words():
    text = said()
    assert "the orders cost 1.40 (0.070% of it)" in text
    assert "2.00% of wealth as held now, 3.00% with the orders" in text
    # The dual: 400 of money per unit of wealth, so 0.4 for a tenth of a percentage point.
    assert "0.1 percentage points more today would add about 0.40 to expected wealth" in text
    assert "regime 1 75.0% (mean +1.00%, volatility 2.00%)" in text
    assert "Expected gain over 12 decisions: 100.00 (5.00% of wealth)" in text
    assert "would give up 20.00 of expected wealth, 20.0% of the expected gain" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limit_price": 0.0}, "does not hold the decision back: it costs nothing"),
        ({"cvar_limit": None}, "there is no limit"),
        ({"value_without_trading": None}, "no later decision can keep the limit"),
        ({"cvar_before": 0.05}, "It would break the limit: CVaR 5.00% of wealth."),
        ({"value_without_trading": 2_150.0}, "would add 50.00 to expected wealth, at a risk"),
        (
            {"value": 2_000.0, "value_without_trading": 2_000.0},
            "over 12 decisions: 0.00 (0.00%",
        ),
        ({"period": 1}, "outcomes over the next 1 row (CVaR)"),
    ],
)
def test_special_cases(changes, words):
    assert words in said(**changes)


def test_nothing_is_traded():
    orders = decision().orders.assign(trade=0.0, trade_shares=0.0, cost=0.0)
    assert "none: nothing is traded" in said(orders=orders)


def test_the_json_object_holds_the_orders_and_no_nan():
    data = json.loads(as_json(decision_report.data(decision(value_without_trading=None), ["n"])))
    assert data["orders"][0]["asset"] == ODD
    assert data["orders"][1]["trade"] == 900.0
    assert data["given_up_by_not_trading"] is None
    assert data["regimes"]["regime 1"]["probability"] == 0.75


def test_the_page_shows_names_as_they_are_and_needs_nothing_beside_itself():
    page = decision_page.page(decision(), ["a note"])
    texts: list[str] = []
    links: list[str] = []

    class Reader(HTMLParser):
        def handle_data(self, data: str) -> None:
            texts.append(data.strip())

        def handle_starttag(self, tag: str, attrs) -> None:
            links.extend(value for name, value in attrs if name in ("src", "href"))

    Reader().feed(page)
    assert ODD in texts
    assert "<b>A&B" not in page
    assert not [link for link in links if not link.startswith(("#", "data:"))]


def test_nearly_best_orders_say_what_they_give_up():
    """Of a gain of 90 over cash, 4.5 may be given up, and 3 is."""
    text = said(within=0.05, value=2_097.0)
    assert "at least 95% of the best, 90.00: they give up 3.00 (3.3% of it)." in text
    assert "holds the best decision back" in text
    assert "they give up" not in said()
