"""Trained allocation policies: decisions by stage, regime and holdings."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from sddp.allocation.model import AllocationModel, Holdings
from sddp.allocation.one_period import OnePeriodDistribution
from sddp.allocation.problem import AllocationProblem, money
from sddp.arrays import Floats
from sddp.display.shown import Shown, listed, number
from sddp.engine.certificate.certificate import Certificate
from sddp.engine.policy.files import load_file, save_policy
from sddp.engine.policy.policy import Decision, Policy
from sddp.errors import DataError, InfeasibleState, ModelError, PolicyFileError
from sddp.labels import label_index
from sddp.rng import Rng
from sddp.scenarios import MarkovScenarios

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Regime = int | str | Sequence[float] | Floats | Mapping[str, float]

# Names in a policy file.
NAMES: Mapping[type, str] = {AllocationModel: "allocation_model", MarkovScenarios: "scenarios"}

# Trades below this share of wealth are what solvers' tolerances leave.
SEEN = 1e-9

# Shares of wealth at which a value function is drawn.
GRID = 31

# What the sum of shares may miss 1 by.
ROUNDING = 1e-12

# Beliefs come out of filters in floating point.
BELIEF_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class AllocationDecision(Shown):
    """One decision, in money where not said otherwise.

    Attributes
    ----------
    trades : Series by asset
        Purchases less sales.
    holdings : Series by position, cash first
        After trading, before the period's returns.
    weights : Series by position, cash first
        `holdings` as shares of their sum.
    cost : float
        Cost of the trades.
    cvar : float
        One-period CVaR of the loss, cost of trading included, as a fraction of the wealth before
        trading; computed from the scenarios, not read from the LP.
    value_at_risk : float
        The VaR at the same confidence.
    distribution : OnePeriodDistribution
        Of the period, under the regime or belief of the decision: what `cvar` is computed from.
    value : float
        Expected terminal wealth under the policy's cuts: optimistic.
    marginal_value : Series by position, cash first
        Derivative of `value` with respect to money held on arrival.
    """

    trades: pd.Series[float]
    holdings: pd.Series[float]
    weights: pd.Series[float]
    cost: float
    cvar: float
    value_at_risk: float
    distribution: OnePeriodDistribution
    value: float
    marginal_value: pd.Series[float]

    def _facts(self) -> dict[str, str]:
        return {
            "trades": str(int((self.trades.abs() > SEEN * self.holdings.sum()).sum())),
            "cash": f"{self.weights.iloc[0]:.1%}",
            "cost": number(self.cost),
            "CVaR": f"{self.cvar:.2%}",
            "value": number(self.value),
        }

    def _tables(self) -> dict[str, pd.DataFrame]:
        trades = np.concatenate([[np.nan], self.trades.to_numpy()])
        table = pd.DataFrame(
            {"trade": trades, "holdings": self.holdings, "weight": self.weights},
            index=self.holdings.index,
        )
        order = np.argsort(-self.holdings.to_numpy(), kind="stable")
        return {"Largest holdings": table.iloc[order]}


class AllocationPolicy(Shown):
    """Decisions in money, by asset name. Made by `train_allocation` or `load_allocation_policy`."""

    def __init__(self, problem: AllocationProblem, engine: Policy) -> None:
        self.problem, self.engine = problem, engine

    @property
    def bound(self) -> float:
        """Upper bound on expected terminal wealth (of the sampled problem), in money."""
        return self.engine.bound

    def decide(self, *, stage: int = 0, regime: Regime, holdings: Holdings) -> AllocationDecision:
        """What to trade.

        Parameters
        ----------
        stage : int
            0 for the first decision.
        regime : int or str, or probabilities
            Present regime by position or name; or a belief: one probability per regime, as an
            array or a mapping by name. Under a belief the decision maximizes the mean of what
            follows, under the CVaR of the mixture. Its value is optimistic, for the later
            stages assume that the regime is seen.
        holdings : mapping or Series from position to money
            Before trading, with ``"cash"``; positions left out are 0. Holdings of an earlier
            decision, grown by their returns, can be given as they are.

        Raises
        ------
        InfeasibleState
            No trade keeps the risk limit now and later; names stage, regime and shortfall.
        ModelError
            Unknown stage, regime or asset, a negative holding, nothing held, or a regime that
            training could not reach.
        """
        if not 0 <= stage < self.problem.n_stages:
            raise ModelError(f"stage = {stage} is outside 0..{self.problem.n_stages - 1}")
        belief = belief_over_regimes(self.problem, regime)
        before = money(self.problem.positions, holdings)
        self._check_learned(stage, belief)
        distribution = self.problem.distribution(stage, belief)
        known = np.flatnonzero(belief)
        try:
            if len(known) == 1:
                decision = self.engine.decide((stage, int(known[0])), {"holdings": before})
            else:
                decision = self._decide_under(belief, stage, distribution, before)
        except InfeasibleState as error:
            raise InfeasibleState(f"stage {stage}, regime {regime!r}: {error}") from error
        return self._in_money(decision, before, distribution)

    def certificate(self, *, effort: int = 40, seed: int = 0) -> Certificate:
        """Certified gap between the policy's bound and its guaranteed value, in money.

        Relative to the gain over the initial wealth left in cash. See `Policy.certificate` for
        the parameters; `sddp.bounds.inner.inner_bound` gives the policy that attains
        it as well.
        """
        cash = self.problem.cash_value
        return self.engine.certificate(effort=effort, seed=seed, reference=cash)

    def simulate(self, n_paths: int, *, rng: Rng) -> pd.DataFrame:
        """Follow the policy in sample.

        Parameters
        ----------
        n_paths : int
        rng : int, SeedSequence or Generator
            Draws regimes and scenarios; equal states, equal tables.

        Returns
        -------
        DataFrame
            Index (path, stage), stages 0 to n_stages; the last row of a path is the end.
            Columns: ``regime`` (name), ``wealth`` (on arrival, in money; at the last stage the
            terminal wealth), ``cost`` (of trading), and ``holdings[<position>]``, with the text
            of each position's label, after trading (at the end: on arrival). With payments in
            money or a floor, ``shortfall``, what was not paid and what wealth was below the floor.
        """
        named = {"unpaid": self.problem.terms.payment, "below": self.problem.terms.wealth_floor}
        short = [name for name, due in named.items() if due is not None and due.any()]
        raw = self.engine.simulate(n_paths, rng=rng, record=["purchases", "sales", *short])
        shortfall = raw[short].fillna(0.0).sum(axis=1).to_numpy()
        ended = raw["objective"] + self.problem.model.shortfall_price * shortfall
        positions, components = self.problem.positions, self.problem.engine.labels
        arrived = raw[[f"{component}.in" for component in components]].to_numpy()
        traded = raw[[f"{component}.out" for component in components]].to_numpy()
        stages = raw.index.get_level_values("stage").to_numpy()
        last = stages == self.problem.n_stages
        names = self.problem.scenarios.state_names or ()
        held = np.where(last[:, None], arrived, traded)
        table = pd.DataFrame(
            {
                "regime": [names[k] for _, k in raw["node"]],
                "wealth": np.where(last, ended, arrived.sum(axis=1)),
                "cost": self._costs(raw, last),
            },
            index=raw.index,
        )
        if short:
            table["shortfall"] = shortfall
        return table.join(
            pd.DataFrame(held, index=raw.index, columns=[f"holdings[{p!s}]" for p in positions])
        )

    def shortfall_probability(self, n_paths: int, *, rng: Rng) -> float:
        """Share of simulated paths on which a payment is not made or wealth is below its floor.

        Parameters as for `simulate`; 0 where nothing is owed in money.
        """
        table = self.simulate(n_paths, rng=rng)
        if "shortfall" not in table:
            return 0.0
        by_path = table["shortfall"].groupby(level="path").max()
        return float((by_path > SEEN * table["wealth"].iloc[0]).mean())

    def plot(
        self,
        what: Literal["wealth", "value"] = "wealth",
        *,
        assets: Sequence[Hashable] = (),
        stage: int = 0,
        regime: int | str = 0,
        rng: Rng | None = None,
        n_paths: int = 500,
    ) -> Figure:
        """Simulated wealth by stage, or the value function over what is held on arrival.

        Parameters
        ----------
        what : {"wealth", "value"}
        assets : sequence of one or two labels
            ``"value"``: with one asset a line for each regime, with two a map for `regime`; the
            rest of wealth is in cash.
        stage, regime :
            Of the value function.
        rng : int, SeedSequence or Generator
            ``"wealth"`` draws `n_paths` paths.

        Raises
        ------
        ModelError
            An unknown picture, asset, stage or regime; ``"wealth"`` without `rng`.
        """
        from sddp.display import figures

        if what == "wealth":
            if rng is None:
                raise ModelError("rng = None: must be given to draw paths, such as rng=1")
            paths = self.simulate(n_paths, rng=rng)["wealth"].unstack("stage").to_numpy()
            return figures.wealth_figure(paths, self.bound)
        if what != "value":
            raise ModelError(f"what = {what!r}: must be 'wealth' or 'value'")
        if not 0 <= stage < self.problem.n_stages:
            raise ModelError(f"stage = {stage} is outside 0..{self.problem.n_stages - 1}")
        places, shares = self._places(assets), np.linspace(0.0, 1.0, GRID)
        names, reaches = self.problem.scenarios.state_names or (), self.problem.engine.graph.reaches
        if len(places) == 1:
            lines = {
                str(name): self._values(stage, k, places, shares[:, None])
                for k, name in enumerate(names)
                if reaches((stage, k))
            }
            return figures.value_lines_figure(shares, lines, assets[0])
        chosen = int(belief_over_regimes(self.problem, regime).argmax())
        if not reaches((stage, chosen)):
            raise ModelError(f"regime = {regime!r} is not reached at stage {stage}; choose another")
        first, second = np.meshgrid(shares, shares)
        held = np.column_stack([first.ravel(), second.ravel()])
        values = self._values(stage, chosen, places, held).reshape(first.shape)
        return figures.value_map_figure(shares, values, assets, str(names[chosen]))

    def _places(self, assets: Sequence[Hashable]) -> list[int]:
        """Positions of one or two assets in the engine's state."""
        known = {label: i for i, label in enumerate(self.problem.positions) if i > 0}
        if len(assets) not in (1, 2) or len(set(assets)) < len(assets):
            raise ModelError(f"assets = {list(assets)}: must be one or two different assets")
        for asset in assets:
            if asset not in known:
                raise ModelError(f"assets hold {asset!r}; known are {listed(list(known))}")
        return [known[asset] for asset in assets]

    def _values(self, stage: int, regime: int, places: list[int], held: Floats) -> Floats:
        """Value per unit of wealth with shares in some positions, the rest in cash."""
        values = np.full(len(held), np.nan)
        for i, row in enumerate(held):
            state = np.zeros(len(self.problem.positions))
            state[places], state[0] = row, 1.0 - row.sum()
            if state[0] < -ROUNDING:
                continue
            try:
                values[i] = self.engine.value((stage, regime), {"holdings": state.clip(0.0)})
            except InfeasibleState:
                continue
        return values

    def save(self, path: str | PathLike[str]) -> None:
        """Write the policy, its model and its scenarios to a file; read it with `load`.

        Raises
        ------
        PolicyFileError
            See `Policy.save`.
        """
        problem = self.problem
        extra = {
            "model": problem.model,
            "scenarios": problem.scenarios,
            "growth": problem.growth,
            "cvar": problem.cvar,
        }
        save_policy(self.engine.problem, self.engine.checkpoint, path, extra, NAMES)

    @classmethod
    def load(
        cls, path: str | PathLike[str], problem: AllocationProblem | None = None
    ) -> AllocationPolicy:
        """Read a policy saved by `save`; see `load_allocation_policy`."""
        return load_allocation_policy(path, problem)

    def _costs(self, raw: pd.DataFrame, last: Any) -> Floats:
        terms, assets = self.problem.terms, range(1, len(self.problem.positions))
        purchases = raw[[f"purchases[{i}]" for i in assets]].to_numpy()
        sales = raw[[f"sales[{i}]" for i in assets]].to_numpy()
        costs: Floats = purchases @ terms.purchase_cost + sales @ terms.sale_cost
        return np.where(last, 0.0, costs)

    def _check_learned(self, stage: int, belief: Floats) -> None:
        """Check that training could reach the regimes that may follow."""
        if stage + 1 == self.problem.n_stages and not self.problem.model.in_money:
            return  # terminal wealth is known exactly
        scenarios, graph = self.problem.scenarios, self.problem.engine.graph
        arrival = belief @ scenarios.transition_matrix[stage]
        for j in np.flatnonzero(arrival > 0.0):
            if not graph.reaches((stage + 1, int(j))):
                name = (scenarios.state_names or ())[int(j)]
                raise ModelError(
                    f"regime {name!r} may follow at stage {stage + 1}, but cannot be reached from "
                    "the initial regime, so the policy has learned nothing there; train with an "
                    "initial_regime from which it can"
                )

    def _decide_under(
        self, belief: Floats, stage: int, distribution: OnePeriodDistribution, before: Floats
    ) -> Decision:
        arrival = belief @ self.problem.scenarios.transition_matrix[stage]
        arcs = [((stage + 1, int(j)), float(arrival[j])) for j in np.flatnonzero(arrival > 0.0)]
        return self.engine.decide_before(
            self.problem.stage_before(stage, distribution),
            arcs,
            {"holdings": before},
            risk=self.engine.checkpoint.risk[(stage, int(belief.argmax()))],
            name=f"stage {stage}",
        )

    def _in_money(
        self, decision: Decision, before: Floats, distribution: OnePeriodDistribution
    ) -> AllocationDecision:
        positions, assets = (
            label_index(labels) for labels in (self.problem.positions, self.problem.asset_names)
        )
        terms = self.problem.terms
        held = np.array(list(decision.outgoing["holdings"].values()), dtype=float)
        trades = held[1:] - before[1:]
        bought, sold = np.maximum(trades, 0.0), np.maximum(-trades, 0.0)
        cost = float(bought @ terms.purchase_cost + sold @ terms.sale_cost)
        money, confidence = (float(held[0]), held[1:]), self.problem.model.cvar_confidence
        wealth = sum(before.tolist())
        return AllocationDecision(
            trades=pd.Series(trades, index=assets),
            holdings=pd.Series(held, index=positions),
            weights=pd.Series(held / held.sum(), index=positions),
            cost=cost,
            cvar=(distribution.cvar(*money, confidence) + cost) / wealth,
            value_at_risk=(distribution.value_at_risk(*money, confidence) + cost) / wealth,
            distribution=distribution,
            value=decision.value,
            marginal_value=pd.Series(decision.slope, index=positions),
        )

    def _facts(self) -> dict[str, str]:
        return self.problem._facts()


def belief_over_regimes(problem: AllocationProblem, regime: Regime) -> Floats:
    """One probability per regime, from a regime or from probabilities.

    Raises
    ------
    ModelError
        Wrong number, unknown names, negative, or not summing to 1.
    """
    scenarios = problem.scenarios
    if isinstance(regime, (int, np.integer, str)):
        try:
            belief: Floats = np.eye(scenarios.n_states)[scenarios.state_index(regime)]
        except DataError as error:
            raise ModelError(str(error)) from error
        return belief
    names = list(scenarios.state_names or ())
    if isinstance(regime, Mapping):
        unknown = [name for name in regime if name not in names]
        if unknown:
            raise ModelError(f"belief names regime {unknown[0]!r}; known are {names}")
        regime = [float(regime.get(name, 0.0)) for name in names]
    belief = np.asarray(regime, dtype=float)
    if belief.shape != (scenarios.n_states,):
        raise ModelError(f"belief has shape {belief.shape}; give {scenarios.n_states} numbers")
    if not np.isfinite(belief).all() or belief.min() < 0.0:
        raise ModelError(f"belief must contain numbers between 0 and 1, got {belief}")
    if abs(belief.sum() - 1.0) > BELIEF_TOLERANCE:
        raise ModelError(f"belief sums to {belief.sum()!r}; it must sum to 1")
    normalized: Floats = belief / belief.sum()
    return normalized


def load_allocation_policy(
    path: str | PathLike[str], problem: AllocationProblem | None = None
) -> AllocationPolicy:
    """Read a policy saved by `AllocationPolicy.save`; its decisions are the same bit for bit.

    A file opens by itself; it is plain data, of which nothing is run.

    Parameters
    ----------
    path : path
    problem : AllocationProblem, optional
        The problem that the policy should belong to: compared with the one in the file. First
        holdings may differ: they are no part of what was learned.

    Raises
    ------
    PolicyFileError
        Not a file of an allocation policy, of another version, damaged, or of another problem.
    """
    engine = None if problem is None else problem.engine
    found = load_file(path, engine, NAMES)
    if "scenarios" not in found.extra:
        raise PolicyFileError(
            f"{path} holds no allocation policy but one of the engine; use sddp.load_policy"
        )
    own = AllocationProblem(
        model=found.extra["model"],
        scenarios=found.extra["scenarios"],
        terms=found.extra["model"].on(found.extra["scenarios"]),
        growth=found.extra["growth"],
        cvar=found.extra["cvar"],
        engine=found.problem,
    )
    if problem is not None:
        for what in ("asset_names", "state_names"):
            mine, theirs = (getattr(p.scenarios, what) for p in (problem, own))
            if mine != theirs:
                raise PolicyFileError(
                    f"{path} belongs to another problem: its {what} are {theirs}, the given "
                    f"problem's {mine}"
                )
    chosen = problem or own
    return AllocationPolicy(chosen, Policy(chosen.engine, found.checkpoint))
