"""Today's decision: orders for the present holdings, and their value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from sddp.allocation.alternatives import limit_price, nearest_decision, without_trading
from sddp.allocation.model import AllocationModel, Holdings
from sddp.allocation.policy import AllocationPolicy, load_allocation_policy
from sddp.allocation.problem import allocation_problem
from sddp.allocation.problem import money as money_by_position
from sddp.arrays import Floats, Ints
from sddp.backtest.multistage import BINDING, MultistageStrategy
from sddp.backtest.policy_cache import START
from sddp.backtest.trading import TransactionCosts
from sddp.cache.store import Record, read_record, write_record
from sddp.errors import DataError, ModelError
from sddp.estimation.fit_cache import Fit
from sddp.estimation.regimes import RegimeEstimate, RegimeEstimator
from sddp.labels import CASH, Labels, label_index, same_labels
from sddp.market.market import View
from sddp.scenarios import MarkovScenarios
from sddp.tables import day

POLICY, MODEL, FORMAT = "policy.json", "model.npz", "trained model 1"

# Trades below this share of wealth are what solvers' tolerances leave.
NO_TRADE = 1e-9

# What an `AllocationModel` consists of.
MODEL_FIELDS = tuple(AllocationModel.__dataclass_fields__)


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """Trained policy with the estimate and settings that its decisions need.

    Attributes
    ----------
    policy : AllocationPolicy
        In money per unit of cash; decisions scale with wealth.
    fit : Fit
        Of the regimes.
    initial_regime : int
        The likeliest on `date`.
    date : Timestamp
        Of the last row that it was trained on.
    window, period : int
        Rows of an estimate and of a period, as in `RegimeEstimator`.
    """

    policy: AllocationPolicy
    fit: Fit
    initial_regime: int
    date: pd.Timestamp
    window: int
    period: int

    @classmethod
    def of(
        cls, strategy: MultistageStrategy, view: View, holdings: Holdings | None = None
    ) -> TrainedModel:
        """Estimate and train on what is known, from holdings in money or from cash.

        Raises
        ------
        DataError, InfeasibleProblem, SolverError
            The rows do not carry an estimate, or no policy keeps the limit.
        ModelError
            Holdings name an unknown asset; the strategy's estimator is no `RegimeEstimator`,
            whose fit a file can hold.
        """
        settings = strategy.estimator
        if not isinstance(settings, RegimeEstimator):
            raise ModelError(
                f"estimator={settings!r}: must be a RegimeEstimator; a file holds no other one"
            )
        positions = label_index((CASH, *view.assets))
        held = None if holdings is None else pd.Series(_held(holdings, view), index=positions)
        strategy.refit(view, held)
        estimate, policy = strategy.estimate, strategy.policy
        assert isinstance(estimate, RegimeEstimate)
        assert policy is not None
        regime = int(estimate.belief(view).argmax())
        return cls(policy, estimate.fit, regime, view.date, settings.window, settings.period)

    def belief(self, view: View) -> Floats:
        """Filtered probabilities of the present regime, shape (n_states,).

        Raises
        ------
        DataError
            The view lacks rows, or variables that the regimes were fitted to.
        """
        # Only its data window counts here; nothing is drawn.
        reader = RegimeEstimator(seed=0, window=self.window, period=self.period)
        table, lengths = reader.drivers(view)
        names = self.fit.variable_names
        if names is not None and not same_labels(names, tuple(table.columns)):
            raise DataError(
                f"the regimes were fitted to {list(names)}, and the data hold "
                f"{list(table.columns)}; give the same factors, or train anew"
            )
        return self.fit.regimes.belief(table.iloc[: lengths[0]])

    def save(self, folder: Path) -> None:
        """Write to a folder; read it with `load`, with other prices at hand.

        Raises
        ------
        DataError, PolicyFileError
            The folder cannot be written to.
        """
        problem, scenarios = self.policy.problem, self.policy.problem.scenarios
        arrays = {
            "returns": np.asarray(scenarios.returns[:1]),
            "transition_matrix": np.asarray(scenarios.transition_matrix[:1]),
            "probabilities": np.asarray(scenarios.probabilities)[:1],
        }
        if scenarios.limit_shift is not None:
            arrays["limit_shift"] = np.asarray(scenarios.limit_shift)
        facts = {
            "format": FORMAT,
            "assets": [str(name) for name in scenarios.asset_names or ()],
            "n_stages": problem.n_stages,
            "model": {name: getattr(problem.model, name) for name in MODEL_FIELDS},
            "fit": self.fit.plain(),
            "initial_regime": self.initial_regime,
            "date": self.date.isoformat(),
            "window": self.window,
            "period": self.period,
        }
        write_record(folder / MODEL, Record(arrays, facts))
        self.policy.save(folder / POLICY)

    @classmethod
    def load(cls, folder: str | Path) -> TrainedModel:
        """Read a folder written by `save`.

        Raises
        ------
        DataError
            The folder holds no trained model, or a damaged one.
        PolicyFileError
            The policy file is damaged, or of another version of the package.
        """
        record = read_record(Path(folder) / MODEL)
        if record is None or record.facts.get("format") != FORMAT:
            raise DataError(
                f"{folder}: holds no trained model that this version can read; name a folder that "
                "sddp train has written"
            )
        facts = record.facts
        scenarios = MarkovScenarios(
            returns=record.arrays["returns"][0],
            transition_matrix=record.arrays["transition_matrix"][0],
            probabilities=record.arrays["probabilities"][0],
            asset_names=facts["assets"],
            n_stages=facts["n_stages"],
            limit_shift=record.arrays.get("limit_shift"),
        )
        problem = allocation_problem(
            AllocationModel(**facts["model"]),
            scenarios,
            initial_holdings=START,
            initial_regime=facts["initial_regime"],
        )
        return cls(
            load_allocation_policy(Path(folder) / POLICY, problem),
            Fit.from_plain(facts["fit"]),
            facts["initial_regime"],
            pd.Timestamp(facts["date"]),
            facts["window"],
            facts["period"],
        )


@dataclass(frozen=True, eq=False)
class TodaysDecision:
    """Orders for today's holdings and their value; returned by `decide_today`.

    Amounts are in the money of the prices; values are under the policy's cuts, and so optimistic.

    Attributes
    ----------
    date : Timestamp
        Of the last prices.
    orders : DataFrame, by asset
        ``price``; ``shares`` and ``held``, before trading in shares and money; ``trade_shares``
        and ``trade`` (positive buys), with ``lots`` where a lot size is given; ``cost``;
        ``after_shares`` and ``after`` trading; ``weight`` after trading.
    cash_before, cash_after : float
        Money.
    belief : Series by regime
        Probability that it reigns today; the calmest regime first.
    regimes : DataFrame, by regime
        ``mean`` and ``volatility`` of the equal-weighted return of a period.
    cvar_before, cvar_after : float
        One-period CVaR of the loss as fractions of wealth: of what is held, and of the orders with
        their cost.
    cvar_limit : float or None
    cvar_confidence : float
    limit_price : float
        See `sddp.allocation.alternatives.limit_price`; of the best decision.
    value : float
        Expected wealth at the horizon with the orders.
    best_value : float
        The same with the best decision, which the orders are unless `within` is given.
    cash_value : float
        Wealth at the horizon with everything in cash.
    within : float or None
        Share of the gain over cash that the orders may give up to trade less.
    value_without_trading : float or None
        The same where nothing is traded today; None where no later decision could keep the limit.
    n_stages, period : int
        The horizon: decisions, and rows between two of them.
    notes : tuple of str
        What was done beside the policy's decision.
    """

    date: pd.Timestamp
    orders: pd.DataFrame
    cash_before: float
    cash_after: float
    belief: pd.Series[float]
    regimes: pd.DataFrame
    cvar_before: float
    cvar_after: float
    cvar_limit: float | None
    cvar_confidence: float
    limit_price: float
    value: float
    best_value: float
    cash_value: float
    value_without_trading: float | None
    n_stages: int
    period: int
    within: float | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def wealth(self) -> float:
        """Money before trading."""
        return self.cash_before + float(self.orders["held"].sum())

    @property
    def cost(self) -> float:
        """Transaction costs in money."""
        return float(self.orders["cost"].sum())

    @property
    def expected_gain(self) -> float:
        """Expected gain to the horizon with the orders, in money."""
        return self.value - self.wealth

    @property
    def given_up(self) -> float | None:
        """Expected loss of not trading, in money; negative if not trading violates the limit.

        None where no later decision could keep the limit.
        """
        kept = self.value_without_trading
        return None if kept is None else self.value - kept

    @property
    def limit_binds(self) -> bool:
        """Whether the risk limit is binding."""
        return self.cvar_limit is not None and self.limit_price > 0.0

    @property
    def keeping_breaks_limit(self) -> bool:
        """Whether the present holdings exceed the limit."""
        return self.cvar_limit is not None and self.cvar_before > self.cvar_limit + BINDING


def decide_today(
    model: TrainedModel,
    view: View,
    holdings: Holdings,
    *,
    lot: float | None = None,
    within: float | None = None,
) -> TodaysDecision:
    """Orders for today's holdings.

    Parameters
    ----------
    model : TrainedModel
    view : View
        What is known today; its last row holds the prices of the orders.
    holdings : mapping or Series by position
        Money, with ``"cash"``; positions left out are 0.
    lot : float, optional
        Shares are traded in multiples of it. Orders are rounded towards no trade, and purchases
        are cut further where cash would not suffice.
    within : float, optional
        The orders are the smallest (by the sum of absolute trades) of those whose expected gain
        over cash is at least ``1 - within`` times the best, see
        `sddp.allocation.alternatives.nearest_decision`. None: the best ones.

    Raises
    ------
    InfeasibleState
        No trade keeps the risk limit, now and later.
    ModelError, DataError
        Holdings name an unknown asset, the rows do not suffice, or `within` is no share.
    """
    policy, belief = model.policy, model.belief(view)
    held, known = _held(holdings, view), _places(policy, view)
    # What the policy does not know is sold.
    others = np.setdiff1d(np.arange(len(view.assets)), known)
    amounts = np.append(
        held[0] + held[1 + others].sum() * (1.0 - _sale_cost(policy)), held[1 + known]
    )
    money = pd.Series(amounts, index=label_index(policy.problem.positions))
    decision = policy.decide(stage=0, regime=belief, holdings=money)
    chosen, value, best = decision.holdings, decision.value, decision.value
    cash = float(money.sum()) * float(np.prod(1.0 + policy.problem.terms.cash_return))
    if within is not None:
        near = nearest_decision(policy, within=within, nearest=money, regime=belief, holdings=money)
        chosen, value, best = near.holdings, near.value, near.best
    wanted = -held[1:]
    wanted[known] += chosen.to_numpy()[1:]
    orders, cash_after = _orders(view, held, wanted, policy, lot)
    unchanged = without_trading(policy, regime=belief, holdings=money)
    loss = decision.distribution.cvar(
        cash_after,
        orders["after"].to_numpy(dtype=float)[known],
        policy.problem.model.cvar_confidence,
    )
    return TodaysDecision(
        date=view.date,
        orders=orders,
        cash_before=float(held[0]),
        cash_after=cash_after,
        belief=pd.Series(belief, index=[f"regime {k + 1}" for k in range(len(belief))]),
        regimes=_regime_table(policy.problem.scenarios),
        cvar_before=unchanged.cvar,
        cvar_after=float((loss + orders["cost"].sum()) / held.sum()),
        cvar_limit=policy.problem.model.cvar_limit,
        cvar_confidence=policy.problem.model.cvar_confidence,
        limit_price=limit_price(policy, regime=belief, holdings=money),
        value=value,
        best_value=best,
        cash_value=cash,
        value_without_trading=unchanged.value,
        n_stages=policy.problem.n_stages,
        period=model.period,
        within=within,
        notes=tuple(_notes(held, others, view, lot)),
    )


def _held(holdings: Holdings, view: View) -> Floats:
    """Money by position, cash first, all assets of the view."""
    positions: Labels = (CASH, *view.assets)
    held = money_by_position(positions, holdings)
    unpriced = np.flatnonzero((held[1:] > 0.0) & ~(_prices(view) > 0.0))
    if len(unpriced):
        name = view.assets[unpriced[0]]
        raise DataError(f"{name!r} is held and has no price on {day(view.date)}")
    return held


def _places(policy: AllocationPolicy, view: View) -> Ints:
    """Columns of the policy's assets in the view, matched by text."""
    columns = {str(label): i for i, label in enumerate(view.assets)}
    names = policy.problem.asset_names
    missing = [name for name in names if str(name) not in columns]
    if missing:
        raise DataError(f"prices lack {missing}, which the policy was trained on; train anew")
    return np.array([columns[str(name)] for name in names], dtype=np.int64)


def _prices(view: View) -> Floats:
    return np.asarray(view.prices.iloc[-1], dtype=float)


def _sale_cost(policy: AllocationPolicy) -> float:
    """Sale cost of assets unknown to the policy: the largest of its own."""
    return float(policy.problem.terms.sale_cost.max())


def _orders(
    view: View,
    held: Floats,
    wanted: Floats,
    policy: AllocationPolicy,
    lot: float | None,
) -> tuple[pd.DataFrame, float]:
    """Table of orders, and the remaining cash."""
    smallest, price = NO_TRADE * float(held.sum()), _prices(view)
    before, trade = held[1:], wanted.copy()
    trade[~view.quoted.to_numpy()[-1] & (trade > 0.0)] = 0.0
    trade[np.abs(trade) < smallest] = 0.0
    costs = _costs(policy, view)
    if lot is not None:
        unit = lot * price
        # All that is held may be sold, an odd lot too.
        sold_out = before + trade <= smallest
        trade = trade * sold_out + np.trunc(trade / unit) * unit * ~sold_out
        while held[0] - trade.sum() - costs.charged(trade).sum() < 0.0 and trade.max() > 0.0:
            largest = int(np.argmax(trade))
            trade[largest] = max(trade[largest] - unit[largest], 0.0)
    after = np.maximum(before + trade, 0.0)
    after[after < smallest] = 0.0
    charged = costs.charged(trade)
    cash = max(float(held[0] - trade.sum() - charged.sum()), 0.0)
    columns = {
        "price": price,
        "shares": before / price,
        "held": before,
        "trade_shares": trade / price,
        **({} if lot is None else {"lots": trade / price / lot}),
        "trade": trade,
        "cost": charged,
        "after_shares": after / price,
        "after": after,
        "weight": after / (cash + after.sum()),
    }
    return pd.DataFrame(columns, index=label_index(view.assets, name="asset")), cash


def _costs(policy: AllocationPolicy, view: View) -> TransactionCosts:
    """Costs of all assets of the market."""
    terms, known = policy.problem.terms, _places(policy, view)
    buy, sell = np.zeros(len(view.assets)), np.full(len(view.assets), _sale_cost(policy))
    buy[known], sell[known] = terms.purchase_cost, terms.sale_cost
    return TransactionCosts(buy, sell)


def _regime_table(scenarios: MarkovScenarios) -> pd.DataFrame:
    """Mean and volatility of the equal-weighted return of a period."""
    assert scenarios.probabilities is not None
    returns, weights = scenarios.returns[0].mean(axis=2), scenarios.probabilities[0]
    mean = (weights * returns).sum(axis=1)
    variance = (weights * (returns - mean[:, None]) ** 2).sum(axis=1)
    index = [f"regime {k + 1}" for k in range(len(mean))]
    return pd.DataFrame({"mean": mean, "volatility": np.sqrt(variance)}, index=index)


def _notes(held: Floats, others: Ints, view: View, lot: float | None) -> Iterator[str]:
    """Notes on steps taken beyond the policy's decision."""
    sold = [str(view.assets[i]) for i in others if held[1 + i] > 0.0]
    if sold:
        yield f"{', '.join(sold)}: not quoted when the policy was trained, and so sold"
    stale = [str(name) for name in view.assets[~view.quoted.to_numpy()[-1]]]
    if stale:
        yield f"{', '.join(stale)}: no quote on {day(view.date)}, and so not bought"
    if lot is not None:
        yield (
            f"trades are rounded towards zero to lots of {lot:g} shares; the values are those of "
            "the decision before rounding"
        )
