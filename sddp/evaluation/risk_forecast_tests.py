"""Whether the losses of a backtest kept to the risk that the models had promised.

A journal states for each decision the one-period VaR and CVaR of the portfolio it trades into.
`promised_periods` sets beside them the loss that came of it, `promise_tests` runs the tests of
`sddp.evaluation.risk_tests`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from sddp.backtest.ledger import Ledger
from sddp.errors import DataError
from sddp.evaluation import risk_tests
from sddp.evaluation.inference import MINIMUM_PERIODS, Resampling, mean_interval
from sddp.rng import generator
from sddp.tables import day

# A portfolio all but in cash promises next to nothing, and what then decides whether the promise
# is kept is the drift between decision and execution. One basis point of wealth:
SMALLEST_PROMISE = 1e-4

PROMISED = ("model_var", "model_cvar", "confidence", "cvar_limit", "limit_binds")


def promised_periods(
    ledger: Ledger, journal: pd.DataFrame, *, lag: int, period: int | None = None
) -> pd.DataFrame:
    """Promise of each decision and the loss that followed.

    A decision of row t is executed at row ``t + lag``. Its loss is ``1 - W_e / W_s`` with s that
    row, e the row `period` later and W the wealth before the trades of a row: the cost of the
    trade at the start counts, as in the model, that of the next trade does not. With a lag the
    promise was made on the quotes, the holdings and the wealth of `lag` rows before, orders then on
    the way counted as executed.

    Parameters
    ----------
    ledger : Ledger
    journal : DataFrame, shape (n_decisions, n_columns)
        By date of decision: ``model_var``, ``model_cvar``, ``cvar_limit`` (fractions of wealth),
        ``confidence`` and ``limit_binds``; what else it has is passed over.
    lag : int
        Rows between a decision and its execution.
    period : int, optional
        Rows of the period that the model looks at. Default: the fewest between two decisions.

    Returns
    -------
    DataFrame, shape (n_periods, 6)
        Those columns and ``loss``, by date of decision, for the decisions whose period ends
        within the backtest.

    Raises
    ------
    DataError
        A column is missing, a date is no row of the ledger, or decisions are less than a period
        apart, so that losses overlap and belong to several decisions.
    """
    lacking = [name for name in PROMISED if name not in journal.columns]
    if lacking:
        raise DataError(f"journal lacks {lacking}; it has {list(journal.columns)}")
    wealth = ledger.wealth
    decided = wealth.index.get_indexer(journal.index)
    if (decided < 0).any():
        raise DataError(f"journal has {day(journal.index[decided < 0][0])}, no row of the ledger")
    starts = decided + lag
    gaps = np.diff(starts)
    ends = starts + (int(gaps.min(initial=len(wealth))) if period is None else period)
    if (ends[:-1] > starts[1:]).any():
        early = int(np.argmax(ends[:-1] > starts[1:]))
        raise DataError(
            f"period = {period}, but the decision of {day(journal.index[early])} is followed by "
            f"another one {gaps[early]} rows later; decide every {period} rows, or give the "
            "period that the model looks at"
        )
    over = ends < len(wealth)
    levels = wealth.to_numpy()
    losses = 1.0 - levels[ends[over]] / levels[starts[over]]
    return journal.loc[over, list(PROMISED)].assign(loss=losses)


def promise_tests(periods: Mapping[str, pd.DataFrame], how: Resampling) -> pd.DataFrame:
    """Tests of the promises of some strategies.

    Parameters
    ----------
    periods : mapping of str to DataFrame
        `promised_periods` by strategy.
    how : Resampling
        For the intervals and the simulated p-values.

    Returns
    -------
    DataFrame, shape (n_strategies, 22)
        ``n_periods`` tested: those that promised a CVaR of at least a basis point of wealth;
        ``n_untested``; ``confidence``; ``binding``, the share of all decisions that the limit
        held back. ``violations`` of the VaR, the number ``expected``, their share with its exact
        interval (``share``, ``share_low``, ``share_high``), and the p-values ``coverage``,
        ``independence`` and ``both`` (`risk_tests`). ``cvar_limit`` and ``promised_cvar``, means
        over the tested periods; ``realised_cvar`` (mean of `risk_tests.tail_losses`) with its
        bootstrap interval (``realised_low``, ``realised_high``); ``z1``, ``z2`` and their
        p-values ``z1_p_value`` and ``z2_p_value``: small where risk was understated. ``note``
        says why numbers are NaN.

    Raises
    ------
    DataError
        A strategy's promises are of several confidences.
    """
    streams = generator(how.rng).spawn(len(periods))
    rows = {
        name: _tests(name, table, how, stream)
        for (name, table), stream in zip(periods.items(), streams, strict=True)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")


def _tests(
    name: str, table: pd.DataFrame, how: Resampling, rng: np.random.Generator
) -> dict[str, Any]:
    confidences = table["confidence"].unique()
    if len(confidences) != 1:
        raise DataError(
            f"the promises of {name!r} are of confidences {sorted(confidences)}; test each alone"
        )
    tested = table[table["model_cvar"] >= SMALLEST_PROMISE]
    counts = {
        "n_periods": len(tested),
        "n_untested": len(table) - len(tested),
        "confidence": float(confidences[0]),
        "binding": float(table["limit_binds"].mean()),
    }
    few = f"fewer than {MINIMUM_PERIODS} periods with a promise of {SMALLEST_PROMISE:g} or more"
    if len(tested) < MINIMUM_PERIODS:
        return counts | dict.fromkeys(TESTED, math.nan) | {"note": few}
    values = (*_var_tests(tested, how.level), *_cvar_tests(tested, replace(how, rng=rng)))
    return counts | dict(zip(TESTED, values, strict=True)) | {"note": ""}


TESTED = (
    *("violations", "expected", "share", "share_low", "share_high"),
    *("coverage", "independence", "both"),
    *("cvar_limit", "promised_cvar", "realised_cvar", "realised_low", "realised_high"),
    *("z1", "z1_p_value", "z2", "z2_p_value"),
)


def _var_tests(tested: pd.DataFrame, level: float) -> tuple[float, ...]:
    confidence = float(tested["confidence"].iloc[0])
    exceeded = risk_tests.violations(tested["loss"], tested["model_var"])
    return (
        float(exceeded.sum()),
        (1.0 - confidence) * len(tested),
        float(exceeded.mean()),
        *risk_tests.violation_interval(exceeded, level=level),
        risk_tests.unconditional_coverage(exceeded, confidence=confidence).p_value,
        risk_tests.independence(exceeded).p_value,
        risk_tests.conditional_coverage(exceeded, confidence=confidence).p_value,
    )


def _cvar_tests(tested: pd.DataFrame, how: Resampling) -> tuple[float, ...]:
    confidence = float(tested["confidence"].iloc[0])
    losses, var = tested["loss"].to_numpy(), tested["model_var"].to_numpy()
    shortfall = risk_tests.shortfall_test(
        losses,
        var,
        tested["model_cvar"].to_numpy(),
        confidence=confidence,
        rng=how.rng,
        n_draws=how.n_draws,
    )
    return (
        float(tested["cvar_limit"].astype(float).mean()),
        float(tested["model_cvar"].mean()),
        *mean_interval(risk_tests.tail_losses(losses, var, confidence=confidence), how=how),
        *shortfall,
    )
