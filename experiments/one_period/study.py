"""What is computed: backtests and their statistics, shocks, sensitivities, bands, online steps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.one_period.inputs import (
    DIGITAL,
    EQUAL,
    SDDP,
    Case,
    Config,
    bands,
    forecaster,
    strategies,
)
from sddp.backtest import (
    BacktestResult,
    Cell,
    EveryPeriods,
    Strategy,
    TransactionCosts,
    run_study,
)
from sddp.evaluation import Resampling, deflated_sharpe, differences, intervals, sample, summary
from sddp.portfolio import (
    ExponentialMoments,
    MeanVariance,
    SampleMoments,
    VolatilityDriven,
    sensitivity,
)
from sddp.portfolio.optimizers.online import OnlineMeanVariance
from sddp.simulation.stress import Shock, stress_table

Tables = dict[str, pd.DataFrame]

SHOCK = Shock("real estate -30 %", {"vnq": -0.3}, correlations=0.9)
WITHOUT_BAND, WITH_BAND = "band 0 %, to the center", "band 5 %, to the edge"
# Days.
HELD = 21

METRICS = ("annualized_return", "volatility", "sharpe", "cvar", "maximum_drawdown")
TRADING = ("turnover", "cost_drag", "average_cash", "final_wealth")


def tables(case: Case, config: Config, store: str, n_jobs: int, progress: bool) -> Tables:
    """All tables of one case."""
    result = _backtests(case, config, strategies(case, config, store), store, n_jobs, progress)
    how = Resampling(config.seed, n_draws=config.n_draws)
    taken = sample(result)
    metrics = summary(result, confidence=config.confidence)
    found = {
        "summary": metrics[[*METRICS, *TRADING]],
        "intervals": intervals(taken, how, confidence=config.confidence).set_index("strategy"),
        "differences": differences(taken, EQUAL, how).set_index("strategy"),
        "deflated": deflated_sharpe(taken, trial_sharpes=metrics["sharpe"].to_numpy()),
        "wealth": result.wealth.iloc[:: config.period],
        "sensitivity": sensitivities(case, config),
        "tornado": one_day(case, config),
        "online": online(case, config),
    }
    banded = _backtests(case, config, bands(case, config), store, n_jobs, progress)
    traded = differences(sample(banded), WITHOUT_BAND, how)
    sharpe = traded[traded["metric"] == "sharpe"].set_index("strategy")
    found["bands"] = summary(banded)[["sharpe", *TRADING]].join(
        sharpe[["value", "low", "high", "p_value"]].add_prefix("difference_")
    )
    if case.name == DIGITAL:
        found["shock"] = shock_through_time(case, config, result)
    return found


def _backtests(
    case: Case,
    config: Config,
    chosen: Mapping[str, Strategy],
    store: str | Path,
    n_jobs: int,
    progress: bool,
) -> BacktestResult:
    every = EveryPeriods(config.period)
    found = run_study(
        case.market,
        {
            name: Cell(strategy, transaction_cost=case.cost, lag=config.lag, rebalance=every)
            for name, strategy in chosen.items()
        },
        start=case.start,
        end=case.end,
        n_jobs=n_jobs,
        store=store,
        progress=progress,
    )
    found.check()
    return found.result()


def shock_through_time(case: Case, config: Config, result: BacktestResult) -> pd.DataFrame:
    """Loss by the fall of real estate, date by date: alone, and with what correlations of 0.9 add.

    ``loss`` is that of the holding of real estate; ``comoving loss`` adds what the others are
    expected to lose with it at correlations of 0.9, under the window's moments of a period.
    """
    rows = []
    for date in result.wealth.index[config.period :: 4 * config.period]:
        moments = forecaster(case, config).forecast(case.market.at(date)).moments
        volatility = np.sqrt(np.diag(moments.covariance))
        correlation = np.full((len(volatility), len(volatility)), 0.9)
        np.fill_diagonal(correlation, 1.0)
        together = type(moments).of(
            np.zeros(len(volatility)),
            correlation * np.outer(volatility, volatility),
            list(moments.mean.index),
        )
        for name, ledger in result.ledgers.items():
            held = ledger.weights.loc[date].drop("cash")
            row = stress_table(held, together, [SHOCK], confidence=config.confidence).loc[
                SHOCK.name
            ]
            rows.append(
                {
                    "strategy": name,
                    "date": date,
                    "loss": row["instantaneous loss"],
                    "comoving loss": row["conditional loss"],
                    "CVaR after": row["CVaR"],
                }
            )
    return pd.DataFrame(rows).set_index("strategy")


def _at(case: Case, config: Config, date: pd.Timestamp) -> dict[str, Any]:
    """What a sensitivity is of: mean-variance, driven by the index where there is one, in days."""
    view = case.market.at(date)
    index = view.volatility_index
    driven = VolatilityDriven(base=2.0, sensitivity=0.05)
    costs = TransactionCosts.of(case.cost, case.assets)
    model = MeanVariance(
        risk_aversion=config.risk_aversion if index is None else driven,
        # Moments are of a day; what a trade costs is spread over the month that it is held.
        transaction_cost=costs.buy / HELD,
        max_cash=0.0,
        self_financing=False,
    )
    window = view.returns.iloc[-case.window :]
    n = len(window.columns)
    return {
        "optimizer": model,
        "inputs": SampleMoments().estimate(window),
        "current_weights": np.full(n, 1.0 / n),
        "cash_return": float(view.cash_rate.iloc[-1]),
        "volatility_index": float(index.iloc[-1]) if index is not None else None,
        "index_error": float(index.diff().std()) if index is not None else None,
        "returns": window,
    }


def sensitivities(case: Case, config: Config) -> pd.DataFrame:
    """By group of inputs, means over dates: weights moved and utility lost."""
    dates = case.market.dates
    inside = dates[(dates >= case.start) & (dates <= case.end)][:: config.sensitivity_every]
    found = [sensitivity(**_at(case, config, date), rng=config.seed).by_group() for date in inside]
    means = pd.concat(found).groupby(level="group").mean()
    return means.assign(dates=len(inside)).sort_values("loss_percent", ascending=False)


def one_day(case: Case, config: Config) -> pd.DataFrame:
    """Input by input on the last date: what the tornado shows."""
    table = sensitivity(**_at(case, config, case.end), rng=config.seed).table
    columns = ["value", "error", "utility", "utility_fall", "turnover", "turnover_fall"]
    changes = [f"{name}{end}" for name in ("weights_error", "loss_error") for end in ("", "_fall")]
    return table[columns + changes].reset_index().set_index("group")


def online(case: Case, config: Config) -> pd.DataFrame:
    """The online solver beside the exact program on one stream of moments, each on its own path.

    Regret is the utility of the exact decisions less that of the online ones, per decision, each
    from its own holdings; the error of constraints is the worst of ``|sum w - 1|`` and ``-min w``;
    time is CPU time a decision, in microseconds, of solvers that are prepared.
    """
    returns = case.market.at(case.end).returns.iloc[-config.n_decisions_online - case.window :]
    names, values = list(returns.columns), returns.to_numpy()
    moments = ExponentialMoments(half_life=case.window / 4.0)
    stream = []
    for t in range(case.window, len(values), config.period):
        at = moments.estimate(values[t - case.window : t])
        next_returns = np.prod(1.0 + values[t : t + config.period], axis=0) - 1.0
        mean, S = (np.asarray(part, dtype=float) for part in (at.mean, at.covariance))
        stream.append((config.period * mean, config.period * S, next_returns))
    costs, aversion = TransactionCosts.of(case.cost, names), config.risk_aversion
    buy, sell = costs.buy, costs.sell
    exact = MeanVariance(
        risk_aversion=aversion, transaction_cost=case.cost, max_cash=0.0, self_financing=False
    ).prepare(names)
    solvers: dict[str, Any] = {"exact": lambda m, S, w: exact.solve(m, S, w).solution.weights}
    for n_steps in (1, 5, 25):
        solvers[f"online, {n_steps} steps"] = OnlineMeanVariance(
            risk_aversion=aversion, purchase_cost=buy, sale_cost=sell, n_steps=n_steps
        ).step
    rows = {}
    for name, solve in solvers.items():
        current, grown = np.full(len(names), 1.0 / len(names)), 1.0
        utility, error, times = [], 0.0, []
        for mean, S, next_returns in stream:
            begun = time.process_time_ns()
            w = solve(mean, S, current)
            times.append((time.process_time_ns() - begun) / 1e3)
            trades = w - current
            paid = float(buy @ np.maximum(trades, 0.0) + sell @ np.maximum(-trades, 0.0))
            utility.append(float(mean @ w) - paid - 0.5 * aversion * float(w @ S @ w))
            error = max(error, abs(float(w.sum()) - 1.0), -float(w.min()))
            after = w * (1.0 + next_returns)
            grown *= float(after.sum()) * (1.0 - paid)
            current = after / after.sum()
        rows[name] = {
            "utility": float(np.mean(utility)),
            "constraint_error": error,
            "microseconds": float(np.median(times)),
            "final_wealth": grown,
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("solver")
    table.insert(0, "regret", table["utility"]["exact"] - table["utility"])
    return table.assign(decisions=len(stream))


def findings(found: Mapping[str, Mapping[str, pd.DataFrame]]) -> dict[str, Any]:
    """Headline results by case."""
    cases = {}
    for name, metrics in found["summary"].items():
        best = str(metrics["sharpe"].idxmax())
        compared = found["differences"][name]
        policy: Any = compared[compared["metric"] == "sharpe"].loc[SDDP]
        bands_of = found["bands"][name]
        moved = found["sensitivity"][name]
        cases[name] = {
            "highest_sharpe": {
                "strategy": best,
                "sharpe": float(metrics["sharpe"][best]),
                "deflated": float(found["deflated"][name]["deflated"][best]),
            },
            "multistage_less_equal_weights": {
                k: float(policy[k]) for k in ("value", "low", "high", "adjusted_p_value")
            },
            "order_by_error": _order(moved["loss_error"]),
            "order_by_percent": _order(moved["loss_percent"]),
            "costs_come_second": claim_on_costs(moved),
            "correlations_first": claim_on_order(moved),
            "band": {
                "difference": float(bands_of["difference_value"][WITH_BAND]),
                "low": float(bands_of["difference_low"][WITH_BAND]),
                "high": float(bands_of["difference_high"][WITH_BAND]),
                "turnover": float(bands_of["turnover"][WITH_BAND]),
                "turnover_without": float(bands_of["turnover"][WITHOUT_BAND]),
            },
        }
    return {"cases": cases}


def _order(losses: pd.Series[float]) -> list[str]:
    """Groups with a number, largest loss first; bounds gain and lose, they are left out."""
    known = losses.drop("bound").dropna().sort_values(ascending=False)
    return [str(name) for name in known.index]


def claim_on_costs(moved: pd.DataFrame) -> bool:
    """Whether means, covariances and risk aversion each cost more than costs do, moved by 1 %."""
    losses = moved["loss_percent"]
    first = ["mean", "volatility", "correlation", "risk aversion"]
    return bool((losses[first] > losses["cost"]).all())


def claim_on_order(moved: pd.DataFrame) -> dict[str, bool]:
    """Whether correlations come before volatilities, before means, before the index, by unit."""
    wanted = ["correlation", "volatility", "mean", "volatility index"]
    found = {}
    for unit, column in (("one standard error", "loss_error"), ("1 %", "loss_percent")):
        order = [name for name in _order(moved[column]) if name in wanted]
        found[unit] = order == [name for name in wanted if name in order]
    return found
