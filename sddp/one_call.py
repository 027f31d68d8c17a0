"""`allocate`: from a table of prices to a decision."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sddp.allocation.model import AllocationModel, Holdings
from sddp.allocation.policy import AllocationDecision
from sddp.allocation.training import train_allocation
from sddp.engine.training.stopping import Gap, Iterations, StoppingRule
from sddp.errors import DataError
from sddp.labels import CASH
from sddp.rng import Rng, generator
from sddp.statistics import FactorModel, GaussianRegimes, markov_scenarios
from sddp.tables import cells, check_same_dates, checked_table

DEFAULT_MODEL = AllocationModel(transaction_cost=0.001, cvar_limit=0.03)
DEFAULT_STOPPING = Gap(relative=1e-2) | Iterations(100)


def allocate(
    prices: pd.DataFrame,
    holdings: Holdings | None = None,
    *,
    model: AllocationModel = DEFAULT_MODEL,
    factors: pd.DataFrame | None = None,
    regimes: GaussianRegimes = GaussianRegimes(),  # noqa: B008 - frozen
    n_stages: int = 12,
    n_scenarios: int = 250,
    stopping: StoppingRule = DEFAULT_STOPPING,
    rng: Rng = 1,
) -> AllocationDecision:
    """What to hold after the last row of a table of prices.

    Parameters
    ----------
    prices : DataFrame, shape (n_rows, n_assets)
        Levels without gaps, one row per decision, oldest first: ``prices.resample("W").last()``
        makes weekly decisions of daily prices. Columns are assets, with any labels.
    holdings : mapping or Series from position to money, optional
        Before trading, with ``"cash"``; one unit of cash by default.
    model : AllocationModel
        Costs and limits; by default a trade costs 0.1 % and the mean of the worst 10 % of losses
        in a period is at most 3 % of wealth.
    factors : DataFrame, shape (n_rows - 1, n_factors), optional
        Log returns that the regimes are those of, on the dates of `prices` but the first; the
        equal-weighted mean of the assets' log returns by default.
    regimes : GaussianRegimes
        How they are fitted.
    n_stages : int
        Decisions looked ahead.
    n_scenarios : int
        Of returns, per regime.
    stopping : StoppingRule
        Of training.
    rng : int, SeedSequence or Generator
        Of the fit, the scenarios and the training.

    Returns
    -------
    AllocationDecision

    Raises
    ------
    DataError
        A price is missing or not positive, dates are not sorted, or the rows do not carry a fit.
    InfeasibleProblem, InfeasibleState
        No decision keeps the limit.

    Examples
    --------
    It makes five calls. Who wants to keep the policy, or to change more, makes them:

    >>> import numpy as np, pandas as pd, sddp
    >>> steps = np.random.default_rng(5).normal([0.002, 0.001], [0.03, 0.01], (150, 2))
    >>> dates = pd.date_range("2020-01-03", periods=150, freq="W-FRI")
    >>> prices = pd.DataFrame(np.exp(steps.cumsum(axis=0)), dates, ["BRK.B", "bonds"])
    >>> settings = sddp.GaussianRegimes(n_states=2, n_starts=2)
    >>> one = sddp.allocate(prices, regimes=settings, n_stages=3, n_scenarios=40)
    >>> fit, draw, train = np.random.default_rng(1).spawn(3)
    >>> returns = np.log(prices).diff().iloc[1:]
    >>> market = returns.mean(axis=1).to_frame("market")
    >>> regimes = settings.fit(market, rng=fit)  # 1
    >>> assets = sddp.FactorModel().fit(returns, market)  # 2
    >>> scenarios = sddp.markov_scenarios(  # 3
    ...     regimes, assets, n_stages=3, n_scenarios=40, rng=draw)
    >>> belief = regimes.belief(market)
    >>> result = sddp.train_allocation(  # 4
    ...     sddp.AllocationModel(transaction_cost=0.001, cvar_limit=0.03), scenarios,
    ...     initial_holdings={"cash": 1.0}, initial_regime=int(belief.argmax()),
    ...     stopping=sddp.Gap(relative=1e-2) | sddp.Iterations(100), rng=train)
    >>> decision = result.policy.decide(regime=belief, holdings={"cash": 1.0})  # 5
    >>> decision.holdings.equals(one.holdings)
    True
    """
    levels = checked_table(prices, "prices", reserved=CASH)
    bad = ~(levels > 0.0)
    if bad.to_numpy().any():
        raise DataError(
            f"prices must be positive and without gaps; missing or not positive at {cells(bad)}; "
            "fill or drop them, or use sddp.Market, which has rules for gaps"
        )
    fit, draw, train = generator(rng).spawn(3)
    logs = np.log(levels.to_numpy())
    returns = pd.DataFrame(np.diff(logs, axis=0), levels.index[1:], levels.columns)
    if factors is None:
        seen = returns.mean(axis=1).to_frame("market")
    else:
        seen = checked_table(factors, "factors")
        check_same_dates(seen, returns.index, "factors")
    fitted = regimes.fit(seen, rng=fit)
    assets = FactorModel().fit(returns, seen)
    scenarios = markov_scenarios(
        fitted, assets, n_stages=n_stages, n_scenarios=n_scenarios, rng=draw
    )
    held, belief = {CASH: 1.0} if holdings is None else holdings, fitted.belief(seen)
    result = train_allocation(
        model,
        scenarios,
        initial_holdings=held,
        initial_regime=int(belief.argmax()),
        stopping=stopping,
        rng=train,
        progress=False,
    )
    return result.policy.decide(regime=belief, holdings=held)
