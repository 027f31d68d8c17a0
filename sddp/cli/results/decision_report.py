"""Today's decision as JSON, as text and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sddp.backtest.today import TodaysDecision
from sddp.cli.extras import can_draw
from sddp.cli.output import as_json, filled

if TYPE_CHECKING:
    from sddp.studies.record import Run

SHOWN = {
    "trade": "trade",
    "trade_shares": "shares",
    "lots": "lots",
    "price": "price",
    "cost": "cost",
    "held": "held",
    "after": "after",
    "weight": "weight",
}

# Of columns that are no money; shares may be fractions of a coin.
FORMATS = {"weight": "{:.1%}", "shares": "{:,.4f}"}


def data(decision: TodaysDecision, notes: Sequence[str]) -> dict[str, Any]:
    """The machine-readable result."""
    return {
        "date": decision.date,
        "wealth": decision.wealth,
        "orders": [
            {"asset": name, **row} for name, row in decision.orders.to_dict("index").items()
        ],
        "cash_before": decision.cash_before,
        "cash_after": decision.cash_after,
        "cost": decision.cost,
        "cvar_before": decision.cvar_before,
        "cvar_after": decision.cvar_after,
        "cvar_limit": decision.cvar_limit,
        "cvar_confidence": decision.cvar_confidence,
        "limit_binds": decision.limit_binds,
        "limit_price": decision.limit_price,
        "regimes": {
            name: {"probability": share, "mean": mean, "volatility": volatility}
            for name, share, mean, volatility in regimes_of(decision)
        },
        "expected_wealth_at_horizon": decision.value,
        "expected_gain": decision.expected_gain,
        "within": decision.within,
        "best_wealth_at_horizon": decision.best_value,
        "cash_wealth_at_horizon": decision.cash_value,
        "given_up_by_not_trading": decision.given_up,
        "given_up_share_of_gain": given_up_share(decision),
        "horizon": {"decisions": decision.n_stages, "rows_apart": decision.period},
        "notes": [*notes, *decision.notes],
    }


def given_up_share(decision: TodaysDecision) -> float | None:
    """What not trading gives up, as a share of the expected gain; None where there is no gain."""
    if decision.given_up is None or decision.expected_gain <= 0.0:
        return None
    return decision.given_up / decision.expected_gain


def text(decision: TodaysDecision, notes: Sequence[str], width: int) -> str:
    """The decision for people: orders, then sentences."""
    traded = decision.orders[decision.orders["trade"] != 0.0]
    heading = f"Orders on {decision.date:%Y-%m-%d}, at its prices"
    table = "none: nothing is traded"
    if len(traded):
        shown = traded[[name for name in SHOWN if name in traded]].rename(columns=SHOWN)
        table = shown.to_string(
            formatters=[FORMATS.get(str(name), "{:,.2f}").format for name in shown],
            line_width=width,
        )
    told, said = filled([*notes, *decision.notes], width), filled(sentences(decision), width)
    return f"{told}\n\n{heading}\n{table}\n\n{said}"


def sentences(decision: TodaysDecision) -> list[str]:
    """What the orders do, cost and are worth."""
    wealth, cost = decision.wealth, decision.cost
    tail = 1.0 - decision.cvar_confidence
    period = "1 row" if decision.period == 1 else f"{decision.period} rows"
    return [
        f"Wealth {wealth:,.2f}; the orders cost {cost:,.2f} ({cost / wealth:.3%} of it); cash "
        f"{decision.cash_before:,.2f} before, {decision.cash_after:,.2f} after.",
        f"Risk: the mean loss of the worst {tail:.0%} of outcomes over the next {period} (CVaR) is "
        f"{decision.cvar_before:.2%} of wealth as held now, {decision.cvar_after:.2%} with the "
        f"orders, their cost included; {_limit(decision)}",
        "Regime today: "
        + "; ".join(
            f"{name} {share:.1%} (mean {mean:+.2%}, volatility {volatility:.2%})"
            for name, share, mean, volatility in regimes_of(decision)
        )
        + f". In brackets the equal-weighted mean of the assets over one period ({period}).",
        f"Expected gain over {decision.n_stages} decisions: {_amount(decision.expected_gain)} "
        f"({_share(decision.expected_gain / wealth)} of wealth), in the model and at best.",
        *_nearest(decision),
        _not_trading(decision),
    ]


def _nearest(decision: TodaysDecision) -> list[str]:
    """What trading less than the best decision gives up; nothing for the best decision."""
    if decision.within is None:
        return []
    lost = max(decision.best_value - decision.value, 0.0)
    gain = decision.best_value - decision.cash_value
    of_gain = f" ({lost / gain:.1%} of it)" if gain > 0.0 else ""
    return [
        f"These orders trade least among those whose expected gain over cash is at least "
        f"{1.0 - decision.within:.0%} of the best, {_amount(gain)}: they give up "
        f"{_amount(lost)}{of_gain}."
    ]


def _amount(money: float) -> str:
    """Money to two decimals; what rounds to nothing has no sign."""
    return f"{round(money, 2) + 0.0:,.2f}"


def _share(fraction: float) -> str:
    """Percent to two decimals; what rounds to nothing has no sign."""
    return f"{round(fraction, 4) + 0.0:.2%}"


def _limit(decision: TodaysDecision) -> str:
    if decision.cvar_limit is None:
        return "there is no limit."
    limit = f"the limit is {decision.cvar_limit:.2%}"
    which = "decision" if decision.within is None else "best decision"
    if not decision.limit_binds:
        return f"{limit} and does not hold the {which} back: it costs nothing."
    per_point = decision.limit_price * 0.001
    return (
        f"{limit} and holds the {which} back: 0.1 percentage points more today would add about "
        f"{per_point:,.2f} to expected wealth at the horizon "
        f"({per_point / decision.wealth:.3%} of wealth)."
    )


def regimes_of(decision: TodaysDecision) -> list[tuple[str, float, float, float]]:
    """Name, probability today, mean and volatility of each regime."""
    table = decision.regimes
    columns = (decision.belief, table["mean"], table["volatility"])
    return list(zip(map(str, table.index), *(c.tolist() for c in columns), strict=True))


def _not_trading(decision: TodaysDecision) -> str:
    breach = (
        f" It would break the limit: CVaR {decision.cvar_before:.2%} of wealth."
        if decision.keeping_breaks_limit
        else ""
    )
    given_up = decision.given_up
    if given_up is None:
        return f"Not trading would lead to where no later decision can keep the limit.{breach}"
    if given_up < 0.0:
        return (
            f"Not trading would add {-given_up:,.2f} to expected wealth, at a risk that the "
            f"limit does not allow.{breach}"
        )
    share = given_up_share(decision)
    of_gain = "" if share is None else f", {share:.1%} of the expected gain"
    return f"Not trading would give up {given_up:,.2f} of expected wealth{of_gain}.{breach}"


def write(record: Run, decision: TodaysDecision, notes: Sequence[str]) -> None:
    """``orders.csv``, ``decision.json``, and ``decision.html`` where pages can be written."""
    record.write_table("orders", decision.orders)
    (record.out / "decision.json").write_text(
        as_json(data(decision, notes)) + "\n", encoding="utf-8"
    )
    if can_draw():
        from sddp.cli.results.decision_page import page

        (record.out / "decision.html").write_text(page(decision, notes), encoding="utf-8")
