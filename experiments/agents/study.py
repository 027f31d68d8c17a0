"""Tables of the study."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.agents.config import ANNUAL, ASSETS, COLUMNS, COSTS, GROUPS, WEIGHTS, Config
from sddp.arrays import Floats
from sddp.estimation.price_impact import amihud_ratio
from sddp.portfolio import MeanVariance, Moments
from sddp.rng import child_seed, root_seed
from sddp.simulation import (
    Agent,
    BootstrapLaw,
    Crowd,
    FixedWeights,
    Impact,
    ImpactMarket,
    NormalLaw,
    RegimeLaw,
    ScenarioLaw,
    StudentLaw,
    cascade_table,
    outcomes_with_others,
    per_period,
    risk_figures,
    simulate_portfolio,
    sliced_order,
    standard_shocks,
    stress_table,
    volatility_contributions,
)
from sddp.statistics import GaussianRegimes
from sddp.studies.tasks import Task, TaskPool


def moments_of(n_days: float, year: float = 252.0) -> Moments:
    """Of the example, over some days as one period."""
    return per_period(ANNUAL.mean, ANNUAL.covariance, periods_per_year=year / n_days)


def law_of(moments: Moments, degrees_of_freedom: float | None = None) -> ScenarioLaw:
    """Normal, or Student-t with matched covariance, simple returns."""
    if degrees_of_freedom is None:
        return NormalLaw(mean=moments.mean, covariance=moments.covariance, returns="simple")
    return StudentLaw(
        mean=moments.mean,
        covariance=moments.covariance,
        degrees_of_freedom=degrees_of_freedom,
        returns="simple",
    )


def example(config: Config) -> tuple[pd.DataFrame, pd.DataFrame, Floats]:
    """Risk figures by law and convention, some returns for the figure, and daily paths."""
    tables, returns = {}, {}
    paths = np.zeros((0, 31))
    for (law_name, nu), (how, days, year, n, every, pays) in product(
        (("normal", None), ("Student-t (4)", 4.0)),
        (
            ("30 of 252 days as one period", 30, 252, 1, None, 0.0),
            ("30 of 365 days as one period", 30, 365, 1, None, 0.0),
            ("30 of 252 days as one period, built from cash", 30, 252, 1, None, 1.0),
            ("30 compounded days, holdings fixed", 1, 252, 30, None, 0.0),
            ("30 compounded days, rebalanced daily", 1, 252, 30, 1, 0.0),
        ),
    ):
        found = simulate_portfolio(
            FixedWeights(WEIGHTS, every=every),
            law_of(moments_of(days, year), nu),
            n_scenarios=config.n_scenarios,
            n_periods=n,
            rng=config.seed,
            transaction_cost=COSTS if pays else 0.0,
            paths=n > 1,
        )
        tables[law_name, how] = risk_figures(found.losses, larger_than=[0.2])
        if n == 1 and year == 252 and not pays:
            returns[f"{law_name}, {how}"] = found.returns
        if n > 1 and every is None and nu is None and found.paths is not None:
            paths = found.paths
    table = pd.concat(tables, names=["law", "convention", "figure"]).reset_index()
    return table, pd.DataFrame(returns), paths


def market(config: Config, count: int, depth: float, permanent: float, days: int) -> ImpactMarket:
    """Agents who hold the example's portfolio; impact in real estate only."""
    model = MeanVariance(
        risk_aversion=config.risk_aversion, self_financing=False, transaction_cost=COSTS
    )
    # They begin with what the truth tells them to hold: only changes of mind make them trade.
    free = MeanVariance(risk_aversion=config.risk_aversion, self_financing=False)
    held = free.solve(moments_of(days), current_weights=WEIGHTS).holdings.drop("cash")
    agents = [Agent(name=k, share=1.0 / count, optimizer=model, current=held) for k in range(count)]
    alpha = dict.fromkeys(ASSETS, 0.0) | {"real estate": 0.01 / depth}
    return ImpactMarket(moments_of(days), Impact(alpha=alpha, permanent=permanent), agents)


def crowd_cell(
    config: Config, count: int, depth: float, permanent: float, alikeness: float, days: int
) -> dict[str, Any]:
    """Risk of the example's portfolio among agents in one setting."""
    setting = {
        "agents": count,
        "depth": depth,
        "permanent": permanent,
        "alikeness": alikeness,
        "days": days,
    }
    moments = moments_of(days)
    if count == 0:
        seed = child_seed(root_seed(config.seed), 0)  # that of the returns in the other cells
        alone = next(law_of(moments).sample(config.n_crowd, 1, rng=seed))[:, 0]
        var = risk_figures(-(alone @ np.array(list(WEIGHTS.values())))).loc["VaR 95 %"]
        kinds = dict.fromkeys(("alone", "at once", "reverted"), var.value)
        return setting | kinds | {"standard_error": var.standard_error, "largest fall": 0.0}
    volatility = np.sqrt(np.diag(moments.covariance))
    found = outcomes_with_others(
        WEIGHTS,
        law_of(moments),
        market(config, count, depth, permanent, days),
        n_scenarios=config.n_crowd,
        noise=config.noise * volatility,
        alikeness=alikeness,
        rng=config.seed,
        notion="price_taking",  # under Nash holders gain by pushing up what they hold
    )
    kinds = {"alone": found.alone, "at once": found.at_once, "reverted": found.reverted}
    tables = {name: risk_figures(-r, confidence=0.95) for name, r in kinds.items()}
    figures = {name: float(t["value"]["VaR 95 %"]) for name, t in tables.items()}
    error = float(tables["at once"]["standard_error"]["VaR 95 %"])
    fall = float(-np.quantile(found.price_move[:, 1], 0.05))
    return setting | figures | {"standard_error": error, "largest fall": fall}


def crowds(config: Config, tasks: TaskPool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """VaR against the number of agents, and over all settings of the claim."""
    middle, days = config.depths[len(config.depths) // 2], config.horizons[-1]
    by_count = [
        (count, middle, config.permanent[0], alike, days)
        for alike, count in product(config.alikeness, config.counts)
    ]
    region = [
        (config.n_agents, depth, permanent, alike, horizon)
        for depth, permanent, alike, horizon in product(
            config.depths, config.permanent, config.alikeness, config.horizons
        )
    ]
    cells = [Task(crowd_cell, (config, *cell), [config, *cell]) for cell in by_count + region]
    found = pd.DataFrame(tasks.run("market", cells))
    return found.iloc[: len(by_count)], found.iloc[len(by_count) :].reset_index(drop=True)


def cascade(config: Config) -> pd.DataFrame:
    """Multiplier against depth: agents with debt and a margin, real estate falls by 10 %."""
    rng = np.random.default_rng(config.seed)
    held = np.tile([0.5, 0.3, 0.2], (config.n_agents, 1)) / config.n_agents
    debt = held.sum(axis=1) * rng.uniform(0.4, 0.55, config.n_agents)
    alpha = dict.fromkeys(ASSETS, 0.0) | {"real estate": 4.0}
    crowd = Crowd(
        assets=list(ASSETS),
        holdings=held,
        debt=debt,
        impact=Impact(alpha=alpha),
        limit="leverage",
        level=2.3,
    )
    return cascade_table(crowd, np.array([-0.05, -0.1, 0.0]), [0.5, 1.0, 2.0, 5.0, 20.0, 100.0])


def impact_paths() -> pd.DataFrame:
    """Price of real estate while a tenth of the market's wealth in it is sold, by slices."""
    impact = Impact(alpha={"real estate": 0.5}, permanent=0.3)
    return pd.DataFrame(
        {
            f"{n} slice{'s' if n > 1 else ''}": sliced_order(
                {"real estate": -0.1}, impact, ["real estate"], n_slices=n
            )["real estate"]
            for n in (1, 5, 20)
        }
    ).ffill()


def stress() -> pd.DataFrame:
    """The shocks that every portfolio should see, over thirty days."""
    return stress_table(
        WEIGHTS,
        moments_of(30),
        standard_shocks(GROUPS),
        groups=GROUPS,
        transaction_cost=COSTS,
        tradable={"real estate": 0.01, "bitcoin": 0.5},
    )


def real_prices(config: Config) -> dict[str, pd.DataFrame]:
    """The same portfolio under laws estimated from prices, its episodes, and depth in the data."""
    if config.data is None:
        return {}
    folder = Path(config.data)
    prices = pd.read_csv(folder / "digital_rwa" / "prices.csv", index_col="date", parse_dates=True)
    prices = prices[list(COLUMNS)].rename(columns=COLUMNS)
    returns = prices.pct_change().dropna()
    regimes = GaussianRegimes(n_states=2).fit(np.log1p(returns), rng=config.seed)
    mean, covariance = returns.mean(), returns.cov()
    laws: Mapping[str, ScenarioLaw] = {
        "normal": law_of(Moments(mean, covariance)),
        "Student-t, fitted": StudentLaw.fit(returns, returns="simple"),
        "two regimes": RegimeLaw(regimes, regimes.belief(np.log1p(returns))),
        "bootstrap": BootstrapLaw(returns),
    }
    tables = {}
    for name, law in laws.items():
        found = simulate_portfolio(
            FixedWeights(WEIGHTS),
            law,
            n_scenarios=config.n_scenarios,
            n_periods=30,
            rng=config.seed,
        )
        tables[name] = risk_figures(found.losses, larger_than=[0.2])
    risk = pd.concat(tables, names=["law", "figure"]).reset_index()
    month = per_period(mean, covariance, periods_per_year=1.0 / 30.0)
    episodes = stress_table(WEIGHTS, month, standard_shocks({}, prices=prices))
    hourly, volume = (
        pd.read_csv(folder / "hourly" / name, index_col=0, parse_dates=True)
        for name in ("prices.csv", "volume_usdt.csv")
    )
    moves = hourly.pct_change(fill_method=None)
    depth = {name: amihud_ratio(moves[name], volume[name]) for name in ("btc", "eth", "paxg")}
    depths = pd.DataFrame(
        {name: (d.depth, d.slope, d.standard_error) for name, d in depth.items()},
        index=["money per 1 %", "slope", "standard_error"],
    ).T
    return {"real_prices": risk, "episodes": episodes, "depth_in_data": depths}


def contributions() -> pd.DataFrame:
    """Shares of the volatility."""
    return volatility_contributions(pd.Series(WEIGHTS), ANNUAL.covariance)
