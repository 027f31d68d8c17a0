"""Tables of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from experiments.agents.config import (
    ANNUAL,
    ASSETS,
    BUILT,
    CLAIM,
    COLUMNS,
    CONVENTIONS,
    COSTS,
    CVAR,
    FIXED,
    GROUPS,
    KNOWN,
    LAWS,
    ONE_PERIOD,
    VAR,
    WEIGHTS,
    Config,
)
from sddp.arrays import Floats
from sddp.estimation.price_impact import amihud_ratio
from sddp.portfolio import MeanVariance, Moments
from sddp.simulation import (
    Agent,
    BootstrapLaw,
    Crowd,
    CrowdedOutcomes,
    FixedWeights,
    Impact,
    ImpactMarket,
    NormalLaw,
    PotentialGame,
    RegimeLaw,
    ScenarioLaw,
    SimulatedWealth,
    StudentLaw,
    cascade_table,
    compare_risk,
    crowding,
    gain_of_knowing_impact,
    noisy_means,
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
    for law, how in product(LAWS, CONVENTIONS):
        found = _followed(law, how, config.n_scenarios, config.seed)
        tables[law, how] = risk_figures(found.losses, larger_than=[0.2])
        if how == ONE_PERIOD:
            returns[f"{law}, {how}"] = found.returns
    table = pd.concat(tables, names=["law", "convention", "figure"]).reset_index()
    paths = _followed("normal", FIXED, config.n_scenarios, config.seed).paths
    assert paths is not None
    return table, pd.DataFrame(returns), paths


def _followed(law: str, how: str, n_scenarios: int, seed: int) -> SimulatedWealth:
    """The example's portfolio under a law, thirty days drawn in one of the ways."""
    days, year, n_periods, every, pays = CONVENTIONS[how]
    return simulate_portfolio(
        FixedWeights(WEIGHTS, every=every),
        law_of(moments_of(days, year), LAWS[law]),
        n_scenarios=n_scenarios,
        n_periods=n_periods,
        rng=seed,
        transaction_cost=COSTS if pays else 0.0,
        paths=how == FIXED,
    )


def known_numbers(config: Config) -> pd.DataFrame:
    """Known numbers of the example beside what many scenarios give, and whether they agree.

    They agree within four standard errors and the digits of the known number.
    """
    w = np.array(list(WEIGHTS.values()))
    mean, covariance = np.asarray(ANNUAL.mean), ANNUAL.covariance.to_numpy()
    shares = contributions()["share"]
    exact = {
        "return a year": (0.0590, float(w @ mean)),
        "volatility a year": (0.2178, float(np.sqrt(w @ covariance @ w))),
        **{
            f"share of {name} in the volatility": (share, float(shares[name]))
            for name, share in zip(ASSETS, (0.900, 0.100, 0.0003), strict=True)
        },
    }
    rows = [(what, "", "", given, 5e-5, value, 0.0) for what, (given, value) in exact.items()]
    rows[2] = (*rows[2][:4], 5e-4, *rows[2][5:])
    rows[3] = (*rows[3][:4], 5e-4, *rows[3][5:])
    figures = {}
    for law, how in product(LAWS, CONVENTIONS):
        losses = _followed(law, how, config.n_known, config.seed).losses
        figures[law, how] = risk_figures(losses, larger_than=[0.2])
    for (law, how, figure), (given, digits) in KNOWN.items():
        found = figures[law, how]
        value, error = float(found["value"][figure]), float(found["standard_error"][figure])
        rows.append((figure, law, how, given, digits, value, error))
    table = pd.DataFrame(
        rows, columns=["what", "law", "drawn as", "known", "digits", "found", "standard_error"]
    )
    off = (table["found"] - table["known"]).abs()
    return table.assign(agrees=off <= 4.0 * table["standard_error"] + table["digits"])


def claims(config: Config, region: pd.DataFrame) -> pd.DataFrame:
    """What the specification says of its example, what is found, and whether it holds.

    Of fat tails the found number is by how much they raise the figure; of agents it is minus the
    largest VaR of a setting.
    """
    normal, heavy = (
        risk_figures(
            _followed(law, ONE_PERIOD, config.n_known, config.seed).losses,
            confidence=[0.95, 0.99],
            larger_than=[0.2],
        )["value"]
        for law in LAWS
    )
    built = _followed("normal", BUILT, config.n_known, config.seed).losses
    quantile = float(risk_figures(built)["value"]["return's 5 % quantile (minus VaR)"])
    chance = "probability of losing more than 20 %"
    whole = region["permanent"] == 1.0
    settings = {
        "without foresight": ~region["foresight"],
        "in equilibrium, all impact permanent": region["foresight"] & whole,
        "in equilibrium, part of it temporary": region["foresight"] & ~whole,
    }
    worst = {
        f"ten agents make it -15 %, {where}": -float(region.loc[rows, "at once"].max())
        for where, rows in settings.items()
    }
    rows = [
        ("the 5 % quantile of return less costs is -12 %", -0.12, quantile),
        ("a 10 % chance of losing 20 %, normal law", 0.10, float(normal[chance])),
        ("a 10 % chance of losing 20 %, Student-t (4)", 0.10, float(heavy[chance])),
        ("fat tails raise the VaR at 95 %", 0.0, float((heavy - normal)[VAR])),
        ("fat tails raise the VaR at 99 %", 0.0, float((heavy - normal)["VaR 99 %"])),
        ("fat tails raise the CVaR at 95 %", 0.0, float((heavy - normal)[CVAR])),
        *((claim, CLAIM, found) for claim, found in worst.items()),
    ]
    holds = [
        abs(quantile + 0.12) < 0.005,
        *(float(law[chance]) >= 0.095 for law in (normal, heavy)),
        *(rows[k][2] > 0.0 for k in (3, 4, 5)),
        *(found <= CLAIM for found in worst.values()),
    ]
    return pd.DataFrame(rows, columns=["claim", "said", "found"]).assign(holds=holds)


def market(
    config: Config,
    moments: Moments,
    *,
    count: int,
    depth: float,
    permanent: float,
    content: bool = True,
) -> ImpactMarket:
    """Agents with the example's costs; impact in real estate only.

    Where they are `content` they begin with what the market's moments tell them to hold, so that
    only changes of mind make them trade; else with the example's weights.
    """
    model = MeanVariance(
        risk_aversion=config.risk_aversion, self_financing=False, transaction_cost=COSTS
    )
    free = MeanVariance(risk_aversion=config.risk_aversion, self_financing=False)
    wanted = free.solve(moments, current_weights=WEIGHTS).holdings.drop("cash")
    held = wanted if content else WEIGHTS
    agents = [Agent(name=k, share=1.0 / count, optimizer=model, current=held) for k in range(count)]
    alpha = dict.fromkeys(ASSETS, 0.0) | {"real estate": 0.01 / depth}
    return ImpactMarket(moments, Impact(alpha=alpha, permanent=permanent), agents)


def crowd_cells(
    config: Config,
    moments: Moments,
    setting: Mapping[str, Any],
    depths: Sequence[float],
    permanents: Sequence[float],
) -> list[dict[str, Any]]:
    """Risk of the example's portfolio among agents, for some depths and permanent shares.

    The portfolio's own VaR is known in closed form; what agents add to it is measured on common
    scenarios, which is more exact than either figure alone. Where a price would fall below zero
    there are no figures.
    """
    w = np.array(list(WEIGHTS.values()))
    spread = float(np.sqrt(w @ moments.covariance.to_numpy() @ w))
    alone = NormalDist().inv_cdf(0.95) * spread - float(w @ moments.mean)
    cells = [
        {**setting, "depth": depth, "permanent": permanent, "alone": alone}
        for depth, permanent in product(depths, permanents)
    ]
    if setting["agents"] == 0:
        nothing = {"at once": alone, "reverted": alone, "standard_error": 0.0, "largest fall": 0.0}
        return [cell | nothing for cell in cells]
    # Who trades on the old prices trades the same in any market: moves are in proportion. So does
    # a price taker in equilibrium where all of the move stays with what it bought.
    deep = _among_others(config, moments, cells[0] | {"depth": 1.0, "foresight": False})
    rows = []
    for cell in cells:
        restrained = setting["foresight"] and cell["permanent"] < 1.0
        found = _among_others(config, moments, cell) if restrained else deep
        rows.append(_with_figures(cell, found, 1.0 if restrained else 1.0 / cell["depth"]))
    return rows


def _among_others(config: Config, moments: Moments, cell: Mapping[str, Any]) -> CrowdedOutcomes:
    others = market(
        config, moments, count=cell["agents"], depth=cell["depth"], permanent=cell["permanent"]
    )
    return outcomes_with_others(
        WEIGHTS,
        law_of(moments),
        others,
        n_scenarios=config.n_foreseen if cell["foresight"] else config.n_crowd,
        noise=config.noise * np.sqrt(np.diag(moments.covariance)),
        alikeness=cell["alikeness"],
        rng=config.seed,
        notion="price_taking",  # under Nash holders gain by pushing up what they hold
        foresight=cell["foresight"],
    )


def _with_figures(cell: Mapping[str, Any], found: CrowdedOutcomes, factor: float) -> dict[str, Any]:
    """A cell with its figures, where prices move `factor` times as far as they were found to."""
    moves, lost = factor * found.price_move[:, 1], factor * (found.at_once - found.alone)
    if moves.min() < -1.0:
        none = ("at once", "reverted", "standard_error", "largest fall")
        return {**cell, **dict.fromkeys(none, np.nan)}
    kinds = {"at once": lost, "reverted": cell["permanent"] * lost}
    extra = {
        kind: compare_risk(-(found.alone + part), -found.alone) for kind, part in kinds.items()
    }
    return {
        **cell,
        **{kind: cell["alone"] + float(one["difference"][VAR]) for kind, one in extra.items()},
        "standard_error": float(extra["at once"]["standard_error"][VAR]),
        "largest fall": float(-np.quantile(moves, 0.05)),
    }


def crowds(config: Config, tasks: TaskPool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """VaR against the number of agents, and over all settings of the claim.

    Agents who trade on the old prices, and in equilibrium, there over the longest horizon and,
    where their estimates are most alike, over all.
    """
    middle, longest = config.depths[len(config.depths) // 2], config.horizons[-1]
    names = ("agents", "alikeness", "days", "foresight")
    first, *_ = config.permanent
    each = list(product([config.n_agents], config.alikeness, config.horizons))
    foreseen = [c for c in each if c[2] == longest or c[1] == config.alikeness[-1]]
    by_count = product(config.counts, config.alikeness, [longest], [False])
    asked = [
        *((cell, [middle], [first]) for cell in by_count),
        *(((*cell, False), config.depths, config.permanent) for cell in each),
        *(((*cell, True), [d], config.permanent) for cell in foreseen for d in config.depths),
    ]
    work = []
    for cell, depths, permanents in asked:
        setting = dict(zip(names, cell, strict=True))
        arguments = (config, moments_of(setting["days"]), setting, depths, permanents)
        work.append(Task(crowd_cells, arguments, [config, setting, depths, permanents]))
    found = tasks.run("market", work)
    n_first = len(config.counts) * len(config.alikeness)
    tables = (
        pd.DataFrame([row for rows in part for row in rows])
        for part in (found[:n_first], found[n_first:])
    )
    counted, region = tables
    return counted, region


def crowding_table(config: Config) -> pd.DataFrame:
    """How alike agents trade and hold, by their number and the alikeness of their estimates."""
    moments, depth = moments_of(config.horizons[-1]), config.depths[len(config.depths) // 2]
    noise = config.noise * np.sqrt(np.diag(moments.covariance))
    rows = {}
    for count, alike in product([k for k in config.counts if k > 1], config.alikeness):
        others = market(config, moments, count=count, depth=depth, permanent=0.0)
        game = PotentialGame(others, "price_taking")
        means = noisy_means(
            moments.mean,
            noise=noise,
            alikeness=alike,
            n_agents=count,
            rng=config.seed,
            n_scenarios=config.n_drawn,
        )
        found = [crowding(others, game.solve(means=drawn).weights) for drawn in means]
        rows[count, alike] = pd.concat(found, axis=1).mean(axis=1)
    return pd.DataFrame(rows).T.rename_axis(["agents", "alikeness"]).reset_index()


def knowing(config: Config) -> pd.DataFrame:
    """What one agent gains by knowing its impact, on the way from the example's weights."""
    moments, depth = moments_of(config.horizons[-1]), config.depths[len(config.depths) // 2]
    rows = [
        (
            count,
            permanent,
            gain_of_knowing_impact(
                market(
                    config,
                    moments,
                    count=count,
                    depth=depth,
                    permanent=permanent,
                    content=False,
                )
            ),
        )
        for count, permanent in product([k for k in config.counts if k > 0], config.permanent)
    ]
    return pd.DataFrame(rows, columns=["agents", "permanent", "gain of utility"])


def slicing() -> pd.DataFrame:
    """Cost of selling a tenth of the market's wealth in real estate, by slices and delay."""
    impact = Impact(alpha={"real estate": 0.5}, permanent=0.3)
    rows = []
    for n_slices, delay in product((1, 2, 5, 10, 20), (0, 5)):
        path = sliced_order(
            {"real estate": -0.1}, impact, ["real estate"], n_slices=n_slices, delay=delay
        )
        fall = -float(path["real estate"].min())
        rows.append((n_slices, delay, float(path["cost"].iloc[-1]) / 0.1, fall))
    columns = ["slices", "delay", "cost as a share of the order", "largest fall"]
    return pd.DataFrame(rows, columns=columns)


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


def shocked(month: Moments, prices: pd.DataFrame | None = None) -> pd.DataFrame:
    """The shocks that every portfolio should see, over thirty days; the episodes of prices."""
    return stress_table(
        WEIGHTS,
        month,
        standard_shocks(GROUPS, prices=prices),
        groups=GROUPS,
        transaction_cost=COSTS,
        tradable={"real estate": 0.01, "bitcoin": 0.5},
    )


def read_prices(folder: Path) -> dict[str, pd.DataFrame]:
    """Daily prices, and hourly prices with volumes where there are any."""
    files = {
        "prices": folder / "digital_rwa" / "prices.csv",
        "hourly prices": folder / "hourly" / "prices.csv",
        "hourly volumes": folder / "hourly" / "volume_usdt.csv",
    }
    return {
        name: pd.read_csv(file, index_col=0, parse_dates=True)
        for name, file in files.items()
        if name == "prices" or file.parent.is_dir()
    }


def real_prices(config: Config, data: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The same portfolio under laws estimated from prices, its episodes, and depth in the data."""
    prices = data["prices"][list(COLUMNS)].rename(columns=COLUMNS)
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
    episodes = shocked(month, prices)
    setting = {"agents": config.n_agents, "days": 30, "foresight": False}
    others = [
        row
        for alike in config.alikeness
        for row in crowd_cells(
            config, month, setting | {"alikeness": alike}, config.depths, [config.permanent[0]]
        )
    ]
    return {
        "real_prices": risk,
        "episodes": episodes,
        "real_crowds": pd.DataFrame(others),
    } | _depth_in_data(data)


def _depth_in_data(data: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Money that moves a price by 1 %, from hourly prices and volumes, where there are any."""
    if "hourly prices" not in data:
        return {}
    volume = data["hourly volumes"]
    moves = data["hourly prices"].pct_change(fill_method=None)
    found = {name: amihud_ratio(moves[name], volume[name]) for name in ("btc", "eth", "paxg")}
    table = pd.DataFrame(
        {name: (d.depth, d.slope, d.standard_error) for name, d in found.items()},
        index=["money per 1 %", "slope", "standard_error"],
    ).T
    return {"depth_in_data": table}


def contributions() -> pd.DataFrame:
    """Shares of the volatility."""
    return volatility_contributions(pd.Series(WEIGHTS), ANNUAL.covariance)
