"""Choice of the number of regimes by held-out likelihood, with BIC beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import ModelError
from sddp.rng import Rng, generator
from sddp.statistics.regimes import FittedRegimes, GaussianRegimes
from sddp.statistics.tables import TableLike, read_table

# The paper's own code tries these, trains on these shares of the rows and tests on the next 10 %.
CANDIDATES = range(1, 8)
TRAINING_SHARES = (0.7, 0.8, 0.9)
BLOCK_SHARE = 0.1


def choose_n_states(
    log_returns: TableLike,
    candidates: Sequence[int] = CANDIDATES,
    *,
    rng: Rng,
    regimes: GaussianRegimes | None = None,
    training_shares: Sequence[float] = TRAINING_SHARES,
    block_share: float = BLOCK_SHARE,
) -> pd.DataFrame:
    """Compare numbers of regimes on rows that the fit has not seen.

    The rule: among the candidates whose every fit kept the number of regimes, the one of largest
    held-out log-likelihood. Windows expand: the first 70, 80 and 90 % of the rows are fitted, and
    the log-likelihood of the following 10 % given the rows before them is summed.

    Parameters
    ----------
    log_returns : DataFrame or array, shape (n, d)
        Log returns per period of one sequence, oldest first.
    candidates : sequence of int
        Numbers of regimes to compare.
    rng : int, SeedSequence or Generator
        One stream per candidate: adding candidates leaves the others as they were.
    regimes : GaussianRegimes, optional
        Settings of the fits; its `n_states` is not used.
    training_shares : sequence of float
        Where each window ends, as a share of the rows.
    block_share : float
        Share of the rows that is held out after each window.

    Returns
    -------
    DataFrame
        Index `n_states`; columns `held_out_log_likelihood` (the sum), `held_out_per_row`, `bic`
        (of a fit to all rows; smaller is better), `fewest_fitted` (the least number of regimes any
        fit ended with) and `chosen` (the rule above).

    Raises
    ------
    ModelError
        No candidates, or shares that leave no row to train or test on.
    DataError
        As in `GaussianRegimes.fit`; the shortest window must carry the largest candidate.
    """
    rng = generator(rng)
    table = read_table(log_returns, "log_returns")
    if not len(candidates):
        raise ModelError("candidates is empty; give numbers of regimes to compare")
    windows = _windows(len(table.values), training_shares, block_share)
    template = regimes or GaussianRegimes()
    rows = {
        k: _compare(replace(template, n_states=k), table.values, windows, stream)
        for k, stream in zip(candidates, rng.spawn(len(candidates)), strict=True)
    }
    return _with_choice(pd.DataFrame.from_dict(rows, orient="index").rename_axis("n_states"))


def _windows(
    n_rows: int, training_shares: Sequence[float], block_share: float
) -> list[tuple[int, int]]:
    """Return the end of training and of testing, in rows, of each window."""
    ends = [(round(s * n_rows), round((s + block_share) * n_rows)) for s in training_shares]
    for share, (train, test) in zip(training_shares, ends, strict=True):
        if not 0 < train < test <= n_rows:
            raise ModelError(
                f"training share {share} with block share {block_share} of {n_rows} rows leaves "
                "nothing to train or test on; give shares that sum to at most 1"
            )
    return ends


def _compare(
    settings: GaussianRegimes,
    values: Floats,
    windows: list[tuple[int, int]],
    rng: np.random.Generator,
) -> dict[str, float]:
    *streams, last = rng.spawn(len(windows) + 1)
    fits = [
        settings.fit_quietly(values[:train], rng=stream)
        for (train, _), stream in zip(windows, streams, strict=True)
    ]
    whole = settings.fit_quietly(values, rng=last)
    held_out = sum(_held_out(fit, values, *w) for fit, w in zip(fits, windows, strict=True))
    return {
        "held_out_log_likelihood": held_out,
        "held_out_per_row": held_out / sum(test - train for train, test in windows),
        "bic": whole.bic,
        "fewest_fitted": min(fit.n_states for fit in [*fits, whole]),
    }


def _held_out(fitted: FittedRegimes, values: Floats, train: int, test: int) -> float:
    return fitted.score(values[:test]) - fitted.score(values[:train])


def _with_choice(comparison: pd.DataFrame) -> pd.DataFrame:
    kept = comparison["fewest_fitted"] == comparison.index
    eligible = comparison["held_out_log_likelihood"].where(kept)
    return comparison.assign(chosen=eligible == eligible.max())
