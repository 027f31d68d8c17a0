"""What the models of strategies promised about the tail of one period, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from sddp.backtest.ledger import Ledger
from sddp.evaluation import metrics, risk_tests
from sddp.evaluation.risk_forecast_tests import PROMISED, promised_periods

# A realised CVaR is shown where at least this many losses make its tail.
TAIL_SIZE = 25

OUTCOME = (
    *("cvar_limit", "binding", "model_cvar", "largest_model_cvar", "realised_cvar"),
    *("violations", "expected", "n_periods"),
)


@runtime_checkable
class Journaled(Protocol):
    """A strategy that writes down what its model says of each decision."""

    def journal_table(self) -> pd.DataFrame:
        """One row per decision, by date."""
        ...


def journals(
    strategies: Mapping[str, Any], ledgers: Mapping[str, Ledger]
) -> dict[str, pd.DataFrame]:
    """Journals of the strategies that keep one, the rows of this backtest's decisions only."""
    return {
        name: _own(strategy.journal_table(), ledgers[name])
        for name, strategy in strategies.items()
        if isinstance(strategy, Journaled)
    }


def model_confidence(journals: Mapping[str, pd.DataFrame]) -> float:
    """Level of the models' CVaR; the highest one where they differ.

    Raises
    ------
    ValueError
        There is no journal.
    """
    return max(float(journal["confidence"].max()) for journal in journals.values())


def promises(
    ledgers: Mapping[str, Ledger],
    journals: Mapping[str, pd.DataFrame],
    *,
    lag: int,
    period: int | None,
) -> dict[str, pd.DataFrame]:
    """`promised_periods` of every strategy: what is promised is NaN for one without a journal.

    Its losses are over the periods of the first journal, at the highest level of confidence.
    Without any journal there is no promise, and nothing is returned.
    """
    if not journals:
        return {}
    first = next(iter(journals.values()))
    nothing = dict.fromkeys(PROMISED, np.nan) | {"confidence": model_confidence(journals)}
    return {
        name: promised_periods(
            ledger,
            journals.get(name, pd.DataFrame(nothing, index=first.index)),
            lag=lag,
            period=period,
        )
        for name, ledger in ledgers.items()
    }


def promise_table(periods: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Promise and outcome of each strategy over the whole run.

    Parameters
    ----------
    periods : mapping of str to DataFrame
        As `promises`.

    Returns
    -------
    DataFrame, shape (n_strategies, 8)
        Fractions of wealth in one period: ``cvar_limit`` (mean) and ``binding`` (share of
        decisions that it held back); ``model_cvar`` and ``largest_model_cvar`` (mean and maximum
        over decisions); ``realised_cvar``, of all losses together; ``violations`` (periods with a
        loss above the model's VaR), their number ``expected``, and ``n_periods``. NaN where
        nothing was promised.
    """
    rows = {name: _outcome(table) for name, table in periods.items()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(OUTCOME))
    return table.rename_axis("strategy")


def tail_table(periods: pd.DataFrame, window: int) -> pd.DataFrame:
    """Promise and outcome of one strategy through time.

    Parameters
    ----------
    periods : DataFrame
        As `promises`.
    window : int
        Number of periods a realised CVaR looks back on.

    Returns
    -------
    DataFrame, shape (n_periods, 4)
        As `sddp.reporting.figures.tail_figure` takes it. The realised CVaR at a decision is that
        of the `window` periods before the decision's own.
    """
    confidence = float(periods["confidence"].iloc[-1])
    realised = (
        (-periods["loss"])
        .rolling(window)
        .apply(lambda r: metrics.conditional_value_at_risk(r, confidence=confidence), raw=True)
    )
    return pd.DataFrame(
        {
            "model_cvar": periods["model_cvar"],
            "cvar_limit": periods["cvar_limit"].astype(float),
            "realised_cvar": realised.shift(1),
            "violated": risk_tests.violations(periods["loss"], periods["model_var"]),
        }
    )


def tail_window(confidence: float) -> int:
    """Number of periods whose tail at `confidence` holds 25 of them.

    >>> tail_window(0.9)
    250
    """
    return round(TAIL_SIZE / (1.0 - confidence))


def _own(journal: pd.DataFrame, ledger: Ledger) -> pd.DataFrame:
    # A strategy may come with the journal of an earlier run; its later rows are this run's.
    last = journal[~journal.index.duplicated(keep="last")]
    return last.loc[last.index.isin(ledger.decisions.index)]


def _outcome(periods: pd.DataFrame) -> dict[str, float]:
    if periods.empty:
        return dict.fromkeys(OUTCOME, np.nan)
    confidence = float(periods["confidence"].iloc[-1])
    promised = periods["model_var"].notna()
    violated = risk_tests.violations(periods["loss"], periods["model_var"])
    n_promised = float(promised.sum()) or np.nan
    return {
        "cvar_limit": float(periods["cvar_limit"].astype(float).mean()),
        "binding": float(periods["limit_binds"].astype(float).mean()),
        "model_cvar": float(periods["model_cvar"].mean()),
        "largest_model_cvar": float(periods["model_cvar"].max()),
        "realised_cvar": metrics.conditional_value_at_risk(-periods["loss"], confidence=confidence),
        "violations": float(violated.sum()) if promised.any() else np.nan,
        "expected": (1.0 - confidence) * n_promised,
        "n_periods": n_promised,
    }
