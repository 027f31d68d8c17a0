"""`AllocationModel`: transaction costs, risk limit, cash return and weight limits."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, TypeAlias

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

    def __post_init__(self) -> None:
        for name in ("cvar_confidence", "cvar_limit", "cvar_penalty", "robustness"):
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
        return Terms(purchase, sale, cash_return, weights, self._margin(scenarios))

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
    """

    purchase_cost: Floats
    sale_cost: Floats
    cash_return: Floats
    weight_limit: Floats | None
    margin: Floats | None = None


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

# What a number of each parameter must be, whatever the scenarios.
_RANGES: dict[str, tuple[Callable[[Floats], NDArray[np.bool_]], str]] = {
    "transaction_cost": _COST,
    "sale_cost": _COST,
    "cash_return": (
        lambda numbers: (numbers > -1.0) & (numbers <= 1.0),
        "a decimal return above -1 and at most 1; give 0.0005 for 0.05 %",
    ),
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
