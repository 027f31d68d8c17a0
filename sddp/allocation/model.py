"""`AllocationModel`: transaction costs, risk limit, cash return and weight limits."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.arrays import Floats, as_vector
from sddp.errors import BoundWarning, ModelError, RecourseWarning
from sddp.labels import ByLabel, checked_labels, numbers_by_label
from sddp.scenarios import MarkovScenarios

PerAsset: TypeAlias = "float | Sequence[float] | Floats | ByLabel"

# Money by position: a mapping, or a Series such as the ones decisions come in.
Holdings: TypeAlias = ByLabel


@dataclass(frozen=True)
class AllocationModel:
    """Multi-stage allocation to maximize expected terminal wealth under a one-period risk limit.

    At every decision, with ``W`` the wealth before trading, ``b`` and ``d`` purchases and sales
    in money, ``u`` the holdings after them (Valladao, Silva and Poggi, 2019, section 3)::

        CVaR[ -(r_f u_cash + r.u - costs of b and d) ] <= cvar_limit * W

    All constraints are cones: decisions scale with wealth.

    Parameters
    ----------
    transaction_cost : float, or per asset
        Cost of a purchase (and of a sale, unless `sale_cost` is given) per unit of money traded.
        At least 0 and below 1. Per asset: a mapping or Series by label (all of them), or a
        sequence in the assets' order.
    sale_cost : float, or per asset, optional
        Cost of a sale, where it differs.
    cvar_confidence : float
        0.9 means that the limit is on the mean loss in the worst 10 % of outcomes.
    cvar_limit : float or None
        Largest acceptable one-period CVaR of the loss, as a fraction of wealth before trading,
        from 0 to 1 (0.05 is 5 %). None: no limit.
    cvar_penalty : float or None
        None: the limit is hard. A number: a breach costs this many units of terminal wealth per
        unit of money of CVaR above the limit.
    cash_return : float, or sequence with one number per stage
        Simple decimal return of cash over each period, known in advance; above -1, at most 1.
    weight_limit : float, or per asset, or None
        Largest holding of an asset after trading, as a share of wealth before trading, from 0 to
        1. An asset that a mapping leaves out has no limit: ``{"AAA": 0.2}`` limits one asset.
    terminal_value : {"marked", "liquidated"}
        Terminal wealth at quoted values (the paper's) or after selling everything at its cost.
    robustness : float
        Radius of a Wasserstein ball around the scenarios: the limit is on the worst CVaR of all
        laws in it. Order 1, distance of two outcomes ``max_i |r_i - r'_i| / s_i`` with s the
        standard deviations of the assets under all scenarios (regimes and stages alike), one vector
        for the whole problem. That adds ``robustness / (1 - cvar_confidence) * sum_i s_i u_i`` to
        the CVaR of a long-only portfolio u (Mohajerin Esfahani and Kuhn 2018), so each return is
        taken lower by so many standard deviations: 0.015 at confidence 0.9 takes 0.15 off. Cash and
        costs are certain. Exact as long as no return falls below -1 by it; an upper bound beyond.
        0, the default, changes nothing.
    cvar_limit_scale : float, or sequence with one number per stage
        The limit of a stage is `cvar_limit` times this: 0.5 from the date on which it tightens.
    payment : float, or sequence with one number per stage and one for the horizon
        Money to be paid before trading, at least 0. What is not paid is shortfall.
    payment_share : float, or sequence as for `payment`
        The same as a share of the wealth on arrival, below 1; it keeps decisions proportional to
        wealth, which money does not.
    wealth_floor : float, or sequence as for `payment`
        Money below which wealth on arrival is shortfall.
    shortfall_price : float
        What a unit of money of shortfall costs in units of terminal wealth. At least 1: at less,
        not to pay would pay.

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
    robustness: float = 0.0
    cvar_limit_scale: float | Sequence[float] = 1.0
    payment: float | Sequence[float] = 0.0
    payment_share: float | Sequence[float] = 0.0
    wealth_floor: float | Sequence[float] = 0.0
    shortfall_price: float = 10.0

    def __post_init__(self) -> None:
        numbers = ("cvar_confidence", "cvar_limit", "cvar_penalty", "robustness", "shortfall_price")
        for name in numbers:
            value = getattr(self, name)
            if value is not None and not isinstance(value, Real):
                raise ModelError(f"{name} = {value!r}: must be a number")
        if not 0.0 < self.cvar_confidence < 1.0:
            raise ModelError(
                f"cvar_confidence = {self.cvar_confidence}; give a number between 0 and 1 "
                "(0.9 = mean of the worst 10 %)"
            )
        limit = self.cvar_limit
        if limit is not None and not 0.0 <= limit <= 1.0:
            raise ModelError(
                f"cvar_limit = {limit}: must be a fraction of wealth from 0 to 1, or None; "
                "give 0.05 for 5 %"
            )
        if self.cvar_penalty is not None and not 0.0 < self.cvar_penalty < np.inf:
            raise ModelError(f"cvar_penalty = {self.cvar_penalty}; give a positive number or None")
        if self.cvar_penalty is not None and limit is None:
            raise ModelError("cvar_penalty is given but cvar_limit is None; give both or neither")
        if not 0.0 <= self.robustness < np.inf:
            raise ModelError(
                f"robustness={self.robustness}: must be the radius of a ball, at least 0; give "
                "0.01, or 0 for none"
            )
        if not 1.0 <= self.shortfall_price < np.inf:
            raise ModelError(
                f"shortfall_price={self.shortfall_price}: must be at least 1 and finite; give 10"
            )
        if self.terminal_value not in ("marked", "liquidated"):
            raise ModelError(
                f"terminal_value = {self.terminal_value!r}; give 'marked' or 'liquidated'"
            )
        check_parameters(self, tuple(_RANGES))

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
        weights = None
        if self.weight_limit is not None:
            weights = per_asset(self.weight_limit, names, "weight_limit", default=np.inf)
        cash_return = _vector(self.cash_return, n_stages, "cash_return")
        scale = _vector(self.cvar_limit_scale, n_stages, "cvar_limit_scale")
        return Terms(
            purchase,
            sale,
            cash_return,
            weights,
            self._margin(scenarios),
            cvar_limit=None if self.cvar_limit is None else self.cvar_limit * scale,
            payment=_vector(self.payment, n_stages + 1, "payment"),
            payment_share=_vector(self.payment_share, n_stages + 1, "payment_share"),
            wealth_floor=_vector(self.wealth_floor, n_stages + 1, "wealth_floor"),
        )

    @property
    def pays(self) -> bool:
        """Whether there are payments or a floor on wealth, in money or as a share of wealth."""
        return self.in_money or bool(np.any(np.asarray(self.payment_share) != 0.0))

    @property
    def in_money(self) -> bool:
        """Whether a payment or floor is in money: decisions are then not proportional to wealth."""
        return any(np.any(np.asarray(own) != 0.0) for own in (self.payment, self.wealth_floor))

    def _margin(self, scenarios: MarkovScenarios) -> Floats | None:
        """What robustness takes off each return in the limit."""
        if self.robustness == 0.0 or self.cvar_limit is None:
            return None
        assert scenarios.probabilities is not None
        weights = scenarios.probabilities / scenarios.probabilities.sum()
        mean = np.einsum("tjs,tjsn->n", weights, scenarios.returns)
        variance = np.einsum("tjs,tjsn->n", weights, (scenarios.returns - mean) ** 2)
        margin: Floats = self.robustness / (1.0 - self.cvar_confidence) * np.sqrt(variance)
        least = (scenarios.returns - margin).min()
        if least < -1.0:
            warnings.warn(
                f"robustness={self.robustness:g} takes a return to {least:g}, below -1: the limit "
                "is then on an upper bound of the worst CVaR",
                BoundWarning,
                stacklevel=3,
            )
        return margin


@dataclass(frozen=True, eq=False)
class Terms:
    """An `AllocationModel` spread over assets and stages.

    Attributes
    ----------
    purchase_cost, sale_cost : array, shape (n_assets,)
        Per unit of money traded.
    cash_return : array, shape (n_stages,)
    weight_limit : array, shape (n_assets,), or None
        Infinite for an asset without a limit.
    margin : array, shape (n_assets,), or None
        What robustness takes off each return where the CVaR limit measures losses.
    cvar_limit : array, shape (n_stages,), or None
    payment, payment_share, wealth_floor : array, shape (n_stages + 1,), or None
        The last is at the horizon. None: there is none.
    """

    purchase_cost: Floats
    sale_cost: Floats
    cash_return: Floats
    weight_limit: Floats | None
    margin: Floats | None = None
    cvar_limit: Floats | None = None
    payment: Floats | None = None
    payment_share: Floats | None = None
    wealth_floor: Floats | None = None

    def limit(self, stage: int) -> float | None:
        """Of the one-period CVaR, as a fraction of the wealth before the decision of a stage."""
        return None if self.cvar_limit is None else float(self.cvar_limit[stage])

    def due(self, stage: int) -> Due:
        """Payment and floor of a stage."""
        values = (self.payment, self.payment_share, self.wealth_floor)
        return Due(*(0.0 if own is None else float(own[stage]) for own in values))

    @property
    def stationary(self) -> bool:
        """Whether all stages are alike but for their returns."""
        by_stage = (
            *(self.cash_return, self.cvar_limit),
            *(self.payment, self.payment_share, self.wealth_floor),
        )
        return all(own is None or float(np.ptp(own)) == 0.0 for own in by_stage)


class Due(NamedTuple):
    """What a stage owes: money, a share of the wealth on arrival, and the floor on that wealth."""

    money: float
    share: float
    floor: float


def warn_about_recourse(model: AllocationModel, terms: Terms) -> None:
    """Warn where selling out may itself break the limit (sufficient condition missed).

    After selling everything the loss is the cost of it less the interest on cash, at most
    ``sale_cost (1 + r_f) - r_f`` of wealth.
    """
    if terms.cvar_limit is None or model.cvar_penalty is not None:
        return
    needed = (terms.sale_cost[:, None] * (1.0 + terms.cash_return) - terms.cash_return).max()
    least = float(terms.cvar_limit.min())
    if least < needed:
        warnings.warn(
            f"cvar_limit = {least:g} is below {needed:g}, what selling out can cost: "
            "some states may have no feasible decision; feasibility cuts keep the policy away "
            "from them, but a policy asked there will raise InfeasibleState",
            RecourseWarning,
            stacklevel=3,
        )


def per_asset(
    values: PerAsset, names: Sequence[Hashable], what: str, *, default: float | None = None
) -> Floats:
    """One number per asset, from a number, a sequence, or a mapping or Series by label.

    Parameters
    ----------
    default : float, optional
        For assets that a mapping leaves out; without it the mapping must name all.

    Raises
    ------
    ModelError
        Unknown, repeated or missing labels, wrong length, or a number that is not finite.
    """
    if not isinstance(values, (Mapping, pd.Series)):
        return _vector(values, len(names), what)
    numbers = numbers_by_label(values, names, what, default=default)
    bad = np.flatnonzero(~np.isfinite(numbers) & (numbers != default))
    if len(bad):
        raise ModelError(f"{what} of {names[bad[0]]!r} = {numbers[bad[0]]}: must be finite")
    return numbers


def _vector(values: Any, length: int, what: str) -> Floats:
    try:
        return as_vector(values, length, what)
    except (ValueError, TypeError) as error:
        raise ModelError(str(error)) from error


def _is_cost(numbers: Floats) -> NDArray[np.bool_]:
    return (numbers >= 0.0) & (numbers < 1.0)


_COST = (_is_cost, "at least 0 and below 1; give 0.005 for half a percent")

_MONEY = (lambda numbers: (numbers >= 0.0) & (numbers < np.inf), "money of at least 0, and finite")

# What a number of each parameter must be, whatever the scenarios.
_RANGES: dict[str, tuple[Callable[[Floats], NDArray[np.bool_]], str]] = {
    "transaction_cost": _COST,
    "sale_cost": _COST,
    "cash_return": (
        lambda numbers: (numbers > -1.0) & (numbers <= 1.0),
        "a decimal return above -1 and at most 1; give 0.0005 for 0.05 %",
    ),
    "cvar_limit_scale": (
        lambda numbers: (numbers >= 0.0) & (numbers < np.inf),
        "a finite factor of at least 0; give 0.5 for half of the limit",
    ),
    "payment": _MONEY,
    "payment_share": (
        lambda numbers: (numbers >= 0.0) & (numbers < 1.0),
        "a share of wealth of at least 0 and below 1; give 0.01 for 1 %",
    ),
    "wealth_floor": _MONEY,
    "weight_limit": (
        lambda numbers: (numbers >= 0.0) & (numbers <= 1.0),
        "a share of wealth from 0 to 1; give 0.2 for 20 %, and leave out what has no limit",
    ),
}


def check_parameters(model: Any, names: Sequence[str]) -> None:
    """Check those settings of a model that do not depend on the assets.

    A Series becomes a dictionary: plain data, as files hold it.

    Raises
    ------
    ModelError
        A number is out of its range, or none; names the parameter and the asset.
    DataError
        A Series names an asset twice.
    """
    for name in names:
        value = getattr(model, name)
        if isinstance(value, pd.Series):
            labels = checked_labels(value.index, name)
            value = dict(zip(labels, value.tolist(), strict=True))
            object.__setattr__(model, name, value)
        if value is not None:
            _check_range(value, name, *_RANGES[name])


def _check_range(
    values: Any, what: str, valid: Callable[[Floats], NDArray[np.bool_]], wanted: str
) -> None:
    labels = list(values) if isinstance(values, Mapping) else None
    given = list(values.values()) if isinstance(values, Mapping) else values
    try:
        numbers: Floats = np.array(given, dtype=float)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{what}={values!r}: must hold numbers") from error
    bad = np.flatnonzero(~valid(numbers.ravel()))
    if len(bad):
        i = int(bad[0])
        place = "" if numbers.ndim == 0 else f"[{i}]"
        where = place if labels is None else f" of {labels[i]!r}"
        raise ModelError(f"{what}{where} = {numbers.ravel()[i]:g}: must be {wanted}")
