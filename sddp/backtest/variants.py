"""Ablations of the multi-stage policy, and its one-period counterpart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sddp.allocation.model import AllocationModel
from sddp.backtest.multistage import MultistageStrategy
from sddp.backtest.one_stage import OneStageStrategy
from sddp.errors import ModelError
from sddp.estimation.forecasts import RegimeForecaster
from sddp.estimation.regimes import RegimeEstimator
from sddp.portfolio import CVaRLimited, MeanVariance, Optimizer


def variants(base: MultistageStrategy) -> dict[str, MultistageStrategy | OneStageStrategy]:
    """Ablations of the multi-stage policy: each variant lacks one ingredient.

    Parameters
    ----------
    base : MultistageStrategy
        With regimes and costs. All share its data window, seeds, limits and schedule; those that
        have its regimes share its fits.

    Returns
    -------
    dict
        ``SDDP``, the base; ``one regime``, without time dependence; ``costs ignored``, by the
        model but not by the market; ``myopic``, see the function; ``cost-free future``, one step
        ahead with the value function of free trading after it.

    Raises
    ------
    ModelError
        The estimator is no `RegimeEstimator`.
    """
    if not isinstance(base.estimator, RegimeEstimator):
        raise ModelError(
            f"estimator={base.estimator!r}: must be a RegimeEstimator, of which there is a variant "
            "with one regime; state the variants one by one"
        )
    single = replace(base.estimator.regimes, n_states=1)
    return {
        "SDDP": base,
        "one regime": replace(base, estimator=replace(base.estimator, regimes=single)),
        # Where trading is free the cost-free value function is the value: nothing is left to train.
        "costs ignored": replace(
            base,
            model=replace(base.model, transaction_cost=0.0, sale_cost=None),
            future="cost-free",
        ),
        "myopic": myopic(base),
        "cost-free future": replace(base, future="cost-free"),
    }


def myopic(base: MultistageStrategy) -> OneStageStrategy | MultistageStrategy:
    """Maximize expected wealth after one period, under the limit, costs and scenarios of a policy.

    Parameters
    ----------
    base : MultistageStrategy

    Returns
    -------
    OneStageStrategy
        `CVaRLimited` (`MeanVariance` without risk aversion where there is no limit) on the
        outcomes of the next period. A model with terms that the one-period program lacks (a
        priced limit, robustness, liquidation at the end) keeps a `MultistageStrategy` of one stage.
    """
    program = _one_period(base.model)
    if program is None:
        # One stage cannot be run through: its first decision is asked for each time.
        return replace(base, n_stages=1, mode="receding")
    return OneStageStrategy(
        program,
        RegimeForecaster(base.estimator, base.refit_every, base.on_failure),
        confidence=base.model.cvar_confidence,
        if_infeasible="sell" if base.on_failure == "keep" else "raise",
    )


def _one_period(model: AllocationModel) -> Optimizer | None:
    """The model's program of one period; None where it has other terms."""
    beyond = model.cvar_penalty is not None or model.robustness > 0.0
    if beyond or model.terminal_value != "marked" or np.ndim(model.cvar_limit_scale):
        return None
    terms: dict[str, Any] = {
        "transaction_cost": model.transaction_cost,
        "sale_cost": model.sale_cost,
        "max_weights": 1.0 if model.weight_limit is None else model.weight_limit,
    }
    if model.cvar_limit is None:
        return MeanVariance(risk_aversion=0.0, **terms)
    limit = model.cvar_limit * float(np.asarray(model.cvar_limit_scale))
    return CVaRLimited(limit=limit, confidence=model.cvar_confidence, **terms)
