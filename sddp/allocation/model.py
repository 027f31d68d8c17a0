"""`AllocationModel`: what trading costs, what risk is allowed, what cash earns."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from sddp.arrays import Floats, as_vector
from sddp.errors import ModelError, RecourseWarning
from sddp.scenarios import MarkovScenarios

if TYPE_CHECKING:
    import pandas as pd

PerAsset = float | Sequence[float] | Mapping[str, float]

CASH = "cash"

# Money by position: a mapping, or a Series such as the ones decisions come in.
Holdings: TypeAlias = "Mapping[str, float] | pd.Series[float]"


@dataclass(frozen=True)
class AllocationModel:
    """Multi-stage allocation to maximise expected terminal wealth under a one-period risk limit.

    At every decision, with ``W`` the wealth before trading, ``b`` and ``d`` purchases and sales
    in money, ``u`` the holdings after them (Valladao, Silva and Poggi, 2019, section 3)::

        CVaR[ -(r_f u_cash + r.u - costs of b and d) ] <= cvar_limit * W

    All constraints are cones: decisions scale with wealth.

    Parameters
    ----------
    transaction_cost : float, or per asset
        Cost of a purchase (and of a sale, unless `sale_cost` is given) per unit of money traded.
        Per asset: a mapping by asset name (all of them) or a sequence in the assets' order.
    sale_cost : float, or per asset, optional
        Cost of a sale, where it differs.
    cvar_confidence : float
        0.9 means that the limit is on the mean loss in the worst 10 % of outcomes.
    cvar_limit : float or None
        Largest acceptable one-period CVaR of the loss, as a fraction of wealth before trading.
        None: no limit.
    cvar_penalty : float or None
        None: the limit is hard. A number: a breach costs this many units of terminal wealth per
        unit of money of CVaR above the limit.
    cash_return : float, or sequence with one number per stage
        Simple decimal return of cash over each period, known in advance.
    weight_limit : float, or per asset, or None
        Largest holding of an asset after trading, as a share of wealth before trading.
    terminal_value : {"marked", "liquidated"}
        Terminal wealth at quoted values (the paper's) or after selling everything at its cost.

    Raises
    ------
    ModelError
        Names the parameter, its value and what is allowed.
    """

    transaction_cost: PerAsset = 0.0
    sale_cost: PerAsset | None = None
    cvar_confidence: float = 0.9
    cvar_limit: float | None = None
    cvar_penalty: float | None = None
    cash_return: float | Sequence[float] = 0.0
    weight_limit: PerAsset | None = None
    terminal_value: Literal["marked", "liquidated"] = "marked"

    def __post_init__(self) -> None:
        for name in ("cvar_confidence", "cvar_limit", "cvar_penalty"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Real):
                raise ModelError(f"{name} = {value!r} is no number")
        if not 0.0 < self.cvar_confidence < 1.0:
            raise ModelError(
                f"cvar_confidence = {self.cvar_confidence}; give a number between 0 and 1 "
                "(0.9 = mean of the worst 10 %)"
            )
        limit = self.cvar_limit
        if limit is not None and not (np.isfinite(limit) and limit >= 0.0):
            raise ModelError(f"cvar_limit = {limit}; give a fraction of wealth >= 0, or None")
        if self.cvar_penalty is not None and not 0.0 < self.cvar_penalty < np.inf:
            raise ModelError(f"cvar_penalty = {self.cvar_penalty}; give a positive number or None")
        if self.cvar_penalty is not None and limit is None:
            raise ModelError("cvar_penalty is given but cvar_limit is None; give both or neither")
        if self.terminal_value not in ("marked", "liquidated"):
            raise ModelError(
                f"terminal_value = {self.terminal_value!r}; give 'marked' or 'liquidated'"
            )

    def on(self, scenarios: MarkovScenarios) -> Terms:
        """The model's numbers, one per asset and stage of some scenarios.

        Raises
        ------
        ModelError
            A per-asset or per-stage parameter does not fit the scenarios, or is out of range.
        """
        names, n_stages = tuple(scenarios.asset_names or ()), scenarios.returns.shape[0]
        purchase = per_asset(self.transaction_cost, names, "transaction_cost")
        sale = purchase if self.sale_cost is None else per_asset(self.sale_cost, names, "sale_cost")
        _check_range(purchase, "transaction_cost", names)
        _check_range(sale, "sale_cost", names)
        weights = None
        if self.weight_limit is not None:
            weights = per_asset(self.weight_limit, names, "weight_limit")
            if weights.min() < 0.0:
                raise ModelError(f"weight_limit holds {weights.min()}; give shares of wealth >= 0")
        cash = _vector(self.cash_return, n_stages, "cash_return")
        if cash.min() <= -1.0:
            raise ModelError(f"cash_return holds {cash.min()}; cash cannot lose everything")
        return Terms(purchase, sale, cash, weights)


@dataclass(frozen=True, eq=False)
class Terms:
    """An `AllocationModel` spread over assets and stages.

    Attributes
    ----------
    purchase_cost, sale_cost : array, shape (n_assets,)
        Per unit of money traded.
    cash_return : array, shape (n_stages,)
    weight_limit : array, shape (n_assets,), or None
    """

    purchase_cost: Floats
    sale_cost: Floats
    cash_return: Floats
    weight_limit: Floats | None


def warn_about_recourse(model: AllocationModel, terms: Terms) -> None:
    """Warn where selling out may itself break the limit (sufficient condition missed).

    After selling everything the loss is the cost of it less the interest on cash, at most
    ``sale_cost (1 + r_f) - r_f`` of wealth.
    """
    if model.cvar_limit is None or model.cvar_penalty is not None:
        return
    needed = (terms.sale_cost[:, None] * (1.0 + terms.cash_return) - terms.cash_return).max()
    if model.cvar_limit < needed:
        warnings.warn(
            f"cvar_limit = {model.cvar_limit:g} is below {needed:g}, what selling out can cost: "
            "some states may have no feasible decision; feasibility cuts keep the policy away "
            "from them, but a policy asked there will raise InfeasibleState",
            RecourseWarning,
            stacklevel=3,
        )


def per_asset(values: PerAsset, names: Sequence[str], what: str) -> Floats:
    """One number per asset, from a number, a sequence or a mapping by name.

    Raises
    ------
    ModelError
        Unknown or missing names, wrong length, or a number that is not finite.
    """
    if isinstance(values, Mapping):
        unknown = [name for name in values if name not in names]
        missing = [name for name in names if name not in values]
        if unknown or missing:
            raise ModelError(f"{what}: unknown assets {unknown}, missing assets {missing}")
        return _vector([values[name] for name in names], len(names), what)
    return _vector(values, len(names), what)


def _vector(values: float | Sequence[float], length: int, what: str) -> Floats:
    try:
        return as_vector(values, length, what)
    except ValueError as error:
        raise ModelError(str(error)) from error


def _check_range(costs: Floats, what: str, names: Sequence[str]) -> None:
    bad = np.flatnonzero((costs < 0.0) | (costs >= 1.0))
    if len(bad):
        raise ModelError(
            f"{what} of {names[bad[0]]!r} is {costs[bad[0]]}; give a decimal in [0, 1), "
            "0.005 for half a percent"
        )
