"""The inputs of a mean-variance problem, and how each is moved."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sddp.arrays import Floats
from sddp.portfolio.constraints.constraint_rows import ConstraintRows
from sddp.portfolio.optimizers.black_litterman import BlackLitterman
from sddp.portfolio.qp.problem import TransactionCostQp
from sddp.portfolio.risk_aversion import RiskAversion, VolatilityDriven
from sddp.portfolio.sensitivities.derivatives import Path
from sddp.portfolio.views.posterior import Posterior, posterior


class Input(NamedTuple):
    """An input of the problem and how it is moved.

    Attributes
    ----------
    group, name : str, label
    size : float
        Its value, of which 1 % is 1 %.
    moved : function
        From a change in the input's own unit to the problem.
    error : float
        Standard error that the input states itself; NaN for the others.
    """

    group: str
    name: Hashable
    size: float
    moved: Path
    error: float = np.nan

    @property
    def is_bound(self) -> bool:
        """Whether it bounds a weight, cash or a row."""
        return self.group == "bound"


def inputs_of_problem(
    problem: TransactionCostQp,
    names: Sequence[Hashable],
    wanted: RiskAversion,
    volatility_index: float | None,
    index_error: float,
) -> Iterator[Input]:
    """Moments, risk aversion, index and costs."""
    p, volatility = problem, np.sqrt(problem.covariance.diagonal())
    unit = np.eye(len(names))
    for i, name in enumerate(names):
        yield Input("mean", name, float(p.mean[i]), _raised(p, unit[i]))
    for i, name in enumerate(names):
        if volatility[i] > 0.0:
            yield Input("volatility", name, float(volatility[i]), _scaled(p, i, volatility[i]))
    for i, name in enumerate(names):
        yield Input("correlation", name, 1.0, _decoupled(p, i))
    aversion = p.risk_aversion
    yield Input("risk aversion", "all", aversion, lambda t: replace(p, risk_aversion=aversion + t))
    if isinstance(wanted, VolatilityDriven) and volatility_index is not None:
        slope = wanted.base * wanted.sensitivity
        yield Input(
            "volatility index",
            "all",
            float(volatility_index),
            lambda t: replace(p, risk_aversion=aversion + t * slope),
            index_error,
        )
    for i, name in enumerate(names):
        cost = float(p.purchase_cost[i] + p.sale_cost[i]) / 2.0
        if cost > 0.0:
            yield Input("cost", name, cost, _dearer(p, i, cost))


def bounds_of_problem(
    problem: TransactionCostQp, names: Sequence[Hashable], rows: ConstraintRows
) -> Iterator[Input]:
    """Bounds of the weights and of cash, and the limits of constraints that are rows."""
    p = problem
    for side, label in (("upper", "max"), ("lower", "min")):
        values = getattr(p, side)
        for i, name in enumerate(names):
            if np.isfinite(values[i]):
                yield Input("bound", f"{label} {name}", float(values[i]), _shifted(p, side, i))
    for side, label in (("cash_upper", "max cash"), ("cash_lower", "min cash")):
        value = float(getattr(p, side))
        yield Input("bound", label, value, _moved_cash(p, side, value))
    for k, name in enumerate(rows.names_of_rows):
        for side in ("upper", "lower"):
            value = float(getattr(p.rows, side)[k])
            if np.isfinite(value):
                yield Input("bound", f"{name} ({side})", value, _moved_row(p, side, k))


@dataclass(frozen=True, eq=False)
class MovedViews:
    """Views of a Black-Litterman optimizer: each magnitude, and each standard error."""

    model: BlackLitterman
    found: Posterior
    covariance: Floats
    cash_return: float

    def inputs(self, problem: TransactionCostQp) -> Iterator[Input]:
        """By view: the return stated per period, in excess of cash, and its standard error."""
        errors = np.sqrt(self.found.variances)
        for k, view in enumerate(self.found.views):
            stated, error = float(self.found.stated[k]), float(errors[k])
            yield Input("view", f"{k + 1}: {view}", stated, self._magnitude(problem, k), error)
            if error > 0.0:
                yield Input("view error", f"{k + 1}: {view}", error, self._error(problem, k, error))

    def _magnitude(self, problem: TransactionCostQp, k: int) -> Path:
        def moved(step: float) -> TransactionCostQp:
            stated = self.found.stated.copy()
            stated[k] += step
            return self._at(problem, stated, self.found.variances)

        return moved

    def _error(self, problem: TransactionCostQp, k: int, error: float) -> Path:
        def moved(step: float) -> TransactionCostQp:
            variances = self.found.variances.copy()
            variances[k] = (error + step) ** 2
            return self._at(problem, self.found.stated, variances)

        return moved

    def _at(
        self, problem: TransactionCostQp, stated: Floats, variances: Floats
    ) -> TransactionCostQp:
        processor, found = self.model.processor, self.found
        prior: Floats = np.asarray(found.prior_mean, dtype=float) - self.cash_return
        mean, covariance = posterior(
            prior, self.covariance, found.rows, stated, variances, processor.tau
        )
        share = processor.blending
        mean = prior + share * (mean - prior)
        without = (1.0 + processor.tau) * self.covariance
        covariance = share * covariance + (1.0 - share) * without
        if processor.covariance == "sample":
            covariance = problem.covariance
        return replace(problem, mean=mean + self.cash_return, covariance=covariance)


def _raised(p: TransactionCostQp, unit: Floats) -> Path:
    return lambda step: replace(p, mean=p.mean + step * unit)


def _scaled(p: TransactionCostQp, i: int, volatility: float) -> Path:
    def moved(step: float) -> TransactionCostQp:
        factor = np.ones(len(p.mean))
        factor[i] += step / volatility
        return replace(p, covariance=p.covariance * np.outer(factor, factor))

    return moved


def _decoupled(p: TransactionCostQp, i: int) -> Path:
    """One asset's correlations times ``1 - step``: a mixture with those of an asset apart."""
    apart = p.covariance.copy()
    apart[i, :] = apart[:, i] = 0.0
    apart[i, i] = p.covariance[i, i]
    return lambda step: replace(p, covariance=p.covariance + step * (apart - p.covariance))


def _dearer(p: TransactionCostQp, i: int, cost: float) -> Path:
    def moved(step: float) -> TransactionCostQp:
        factor = np.ones(len(p.mean))
        factor[i] += step / cost
        return replace(p, purchase_cost=p.purchase_cost * factor, sale_cost=p.sale_cost * factor)

    return moved


def _shifted(p: TransactionCostQp, side: str, i: int) -> Path:
    def moved(step: float) -> TransactionCostQp:
        values = getattr(p, side).copy()
        values[i] += step
        return replace(p, lower=values) if side == "lower" else replace(p, upper=values)

    return moved


def _moved_cash(p: TransactionCostQp, side: str, value: float) -> Path:
    if side == "cash_lower":
        return lambda step: replace(p, cash_lower=value + step)
    return lambda step: replace(p, cash_upper=value + step)


def _moved_row(p: TransactionCostQp, side: str, k: int) -> Path:
    def moved(step: float) -> TransactionCostQp:
        lower, upper = p.rows.lower.copy(), p.rows.upper.copy()
        (lower if side == "lower" else upper)[k] += step
        return replace(p, rows=replace(p.rows, lower=lower, upper=upper))

    return moved
