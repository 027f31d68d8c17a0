"""Twenty US stocks, weekly: regimes, scenarios, a risk-limited multi-stage policy, walk-forward.

``python -m experiments.case_study [--quick] [--prices FILE.csv [--factors FILE.csv]] [--out DIR]``.
Prices: daily, first column dates, one column per asset. Without ``--prices`` the stocks and the
factor funds that ship inside skfolio are used. These 20 stocks are survivors of thirty years:
only differences between strategies mean something, not their levels.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from experiments import inputs
from experiments.record import UNTOUCHED, Run, exit_code
from sddp.allocation.figures import bound_figure, terminal_wealth_figure
from sddp.allocation.model import AllocationModel
from sddp.backtest import (
    BacktestReport,
    EqualWeight,
    EveryPeriods,
    HoldCash,
    Market,
    MultistageStrategy,
    RegimeEstimator,
    Strategy,
    backtest,
    print_progress,
)
from sddp.backtest.figures import regime_figure
from sddp.engine.stopping import Iterations
from sddp.risk import weighted_cvar
from sddp.statistics import GaussianRegimes

SDDP = "SDDP"
CAVEAT = "assets are survivors: read differences, not levels"


@dataclass(frozen=True)
class Config:
    """All that a run depends on, beside the data."""

    out: str = "results/case_study"
    prices: str | None = None
    factors: str | None = None
    test_years: float = 2.0
    transaction_cost: float = 0.001
    cvar_confidence: float = 0.9
    cvar_limit: float = 0.03
    cash_rate: float = 0.0
    window: int = 504
    period: int = 5
    n_states: int = 3
    n_starts: int = 5
    n_stages: int = 12
    n_scenarios: int = 250
    iterations: int = 12
    refit_every: int = 4
    n_paths: int = 500
    lag: int = 1
    seed: int = 1
    n_seeds: int = 3


QUICK: Mapping[str, Any] = {
    "test_years": 0.15,
    "n_starts": 2,
    "n_stages": 3,
    "n_scenarios": 50,
    "iterations": 4,
    "n_paths": 50,
    "n_seeds": 1,
}


def load_market(config: Config) -> Market:
    """Prices, factor log returns and the cash rate."""
    if config.prices is None:
        prices, factors = inputs.stock_prices(), inputs.factor_fund_prices()
    else:
        prices = inputs.read_prices(config.prices, "--prices")
        factors = (
            inputs.market_factor(prices)
            if config.factors is None
            else inputs.read_prices(config.factors, "--factors")
        )
    prices, returns = inputs.align(prices, factors)
    return Market(prices, factors=returns, cash_rate=config.cash_rate)


def strategy(config: Config) -> MultistageStrategy:
    """The multi-stage policy with this configuration."""
    return MultistageStrategy(
        model=AllocationModel(
            transaction_cost=config.transaction_cost,
            cvar_confidence=config.cvar_confidence,
            cvar_limit=config.cvar_limit,
        ),
        rng=np.random.default_rng(config.seed),
        n_stages=config.n_stages,
        estimator=RegimeEstimator(
            rng=np.random.default_rng(config.seed),
            window=config.window,
            period=config.period,
            regimes=GaussianRegimes(n_states=config.n_states, n_starts=config.n_starts),
            n_scenarios=config.n_scenarios,
        ),
        stopping=Iterations(config.iterations),
        refit_every=config.refit_every,
    )


def run(config: Config, market: Market, *, progress: bool = True) -> BacktestReport:
    """Walk forward over the last years: every decision uses the rows up to its date.

    The policy is trained on sampled scenarios: other seeds show how much hangs on the draw.
    """
    others = range(config.seed + 1, config.seed + config.n_seeds)
    again = {f"{SDDP}, seed {n}": strategy(replace(config, seed=n)) for n in others}
    simple: dict[str, Strategy] = {"equal weights": EqualWeight(), "cash": HoldCash()}
    start = market.dates[-1] - pd.Timedelta(days=round(365.25 * config.test_years))
    return backtest(
        market,
        {SDDP: strategy(config), **again, **simple},
        start=start,
        transaction_cost=config.transaction_cost,
        lag=config.lag,
        rebalance=EveryPeriods(config.period),
        progress=print_progress if progress else None,
    )


def write(record: Run, config: Config, market: Market, report: BacktestReport) -> dict[str, Any]:
    """Tables and figures of a finished walk-forward; returns the headline numbers."""
    trained = report.strategies[SDDP]
    assert isinstance(trained, MultistageStrategy)
    assert trained.result is not None
    journal = trained.journal_table()
    summary = report.summary(confidence=config.cvar_confidence)
    record.write_table("summary", summary)
    record.write_table("wealth", report.wealth)
    record.write_table("weights", report.weights(SDDP))
    # How long a decision took differs from run to run; the results do not.
    record.write_table("decisions", journal.drop(columns="seconds"))
    record.write_table("training", trained.result.log)

    policy, rng = trained.result.policy, np.random.default_rng(config.seed).spawn(2)[1]
    paths = policy.simulate(config.n_paths, rng=rng)
    terminal = paths.groupby(level="path")["wealth"].last().to_numpy()
    horizon = f"{config.n_stages} periods of {config.period} trading days"
    record.write_figure("bound", bound_figure(trained.result.log, 1.0))
    record.write_figure(
        "terminal_wealth",
        terminal_wealth_figure(terminal, 1.0, policy.bound, config.cvar_confidence, horizon),
    )
    record.write_figure("wealth", report.plot_wealth(caveat=CAVEAT))
    record.write_figure("allocation", report.plot_allocation(SDDP))
    prices = market.at(market.dates[-1]).prices.loc[journal.index[0] :]
    index = (prices / prices.iloc[0]).mean(axis=1)
    beliefs = journal.filter(like="regime")
    record.write_figure("regimes", regime_figure(beliefs, index, "equal-weighted prices"))
    return {
        "decisions": len(journal),
        "share_of_decisions_with_binding_limit": float(journal["limit_binds"].mean()),
        "bound": policy.bound,
        "simulated_mean": float(terminal.mean()),
        "simulated_standard_error": float(terminal.std(ddof=1) / np.sqrt(len(terminal))),
        "summary": summary[["annualised_return", "volatility", "sharpe", "cvar"]].to_dict("index"),
    }


def period_cvar(config: Config, report: BacktestReport) -> pd.Series[float]:
    """Realised CVaR over periods of the model's length, which is what its limit is about."""
    sampled = report.wealth.iloc[config.lag :: config.period]
    returns = sampled.pct_change().iloc[1:]
    return returns.apply(lambda r: weighted_cvar(-r, confidence=config.cvar_confidence))


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 on success, 1 with the reason on standard error otherwise."""
    config = _config(arguments)
    return exit_code(lambda: _study(config), UNTOUCHED)


def _study(config: Config) -> None:
    record = Run(config.out, config)
    market = load_market(config)
    whole = market.at(market.dates[-1])
    record.add_input("prices", whole.prices)
    if whole.factors is not None:
        record.add_input("factors", whole.factors)
    report = run(config, market)
    results = write(record, config, market, report)
    record.finish("complete", results)
    _print(config, report, results)


def _print(config: Config, report: BacktestReport, results: Mapping[str, Any]) -> None:
    columns = [
        "annualised_return",
        "volatility",
        "sharpe",
        "maximum_drawdown",
        "turnover",
        "cost_drag",
        "average_cash",
    ]
    table = report.summary(confidence=config.cvar_confidence)[columns]
    table[f"cvar_{config.period}_days"] = period_cvar(config, report)
    dates = report.wealth.index
    print(
        f"Walk-forward {dates[0]:%Y-%m-%d} to {dates[-1]:%Y-%m-%d}, net of costs; {report.timing}"
    )
    print(table.to_string(float_format=lambda value: f"{value:.4f}"))
    print(
        f"The limit of {config.cvar_limit:.1%} over {config.period} trading days binds on "
        f"{results['share_of_decisions_with_binding_limit']:.0%} of the "
        f"{results['decisions']} decisions."
    )
    print(
        f"Last training: bound on expected wealth {results['bound']:.4f}, in-sample simulation "
        f"{results['simulated_mean']:.4f} +- {results['simulated_standard_error']:.4f}."
    )
    print(f"Note: {CAVEAT}.")
    print(f"Tables, figures and run.json: {config.out}")


def _config(arguments: list[str] | None) -> Config:
    default = Config()
    parser = argparse.ArgumentParser(prog="case_study", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small run, some seconds")
    parser.add_argument("--prices", help="CSV of daily prices: dates, then one column per asset")
    parser.add_argument("--factors", help="CSV of daily factor prices (levels), same format")
    parser.add_argument("--out", default=None, help=f"folder for results ({default.out})")
    parser.add_argument("--cash-rate", type=float, default=0.0, help="decimal return of cash a day")
    parser.add_argument("--cvar-limit", type=float, default=default.cvar_limit)
    parser.add_argument("--seed", type=int, default=default.seed)
    options = vars(parser.parse_args(arguments))
    if options["factors"] and not options["prices"]:
        parser.error("--factors needs --prices")
    quick = options.pop("quick")
    out = options.pop("out") or (f"{default.out}_quick" if quick else default.out)
    return replace(default, **(QUICK if quick else {}), **options, out=out)


if __name__ == "__main__":
    sys.exit(main())
