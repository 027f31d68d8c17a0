"""Laws of returns: what a simulation draws its scenarios from.

There is one protocol, `ScenarioLaw`: ``law.sample(n_scenarios, n_periods, rng=...)`` yields chunks
of simple decimal returns. Scenarios are drawn in blocks of a fixed size, each from a child seed of
its own, so that the numbers do not depend on the size of chunks, their order or the process that
draws them, and the first scenarios of a larger sample are those of a smaller one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sddp.arrays import Floats, Ints, checked_probabilities
from sddp.errors import DataError, ModelError
from sddp.labels import CASH, Labels, checked_labels
from sddp.portfolio.moments import Moments, asset_labels
from sddp.rng import Rng, child_seed, root_seed
from sddp.scenarios import MarkovScenarios
from sddp.statistics import FittedFactorModel, Regimes, simulate_regimes
from sddp.statistics.resampling import draw_blocks, optimal_block_length
from sddp.statistics.tables import TableLike, read_table
from sddp.threads import one_blas_thread

# Draws one block, given its number: simple returns, shape (block size, n_periods, n_assets).
DrawBlock: TypeAlias = Callable[[int], Floats]

# Numbers in a block, about. At 2 MB it stays in the processor's cache: 10,000 x 30 x 100 normal
# returns took 1.2 s in blocks of 2^18, 1.9 s all at once.
BLOCK_NUMBERS = 2**18
LARGEST_BLOCK = 2**15


class ScenarioLaw(ABC):
    """A law of the simple returns of some assets over consecutive periods.

    To add one, subclass and write `asset_names` and `blocks`.
    """

    asset_names: Sequence[Hashable] | None

    @abstractmethod
    def blocks(self, n_periods: int, size: int, seed: np.random.SeedSequence) -> DrawBlock:
        """Prepare draws of blocks.

        Parameters
        ----------
        n_periods : int
        size : int
            Scenarios in a block, a power of two.
        seed : SeedSequence
            Block b draws from ``child_seed(seed, b)``.

        Returns
        -------
        function
            From the number of a block to simple decimal returns, shape (size, n_periods,
            n_assets). The same number gives the same returns in any order.
        """

    @property
    def names(self) -> Labels:
        """Labels of the assets."""
        assert self.asset_names is not None
        return tuple(self.asset_names)

    def block_size(self, n_periods: int) -> int:
        """Scenarios in a block: a power of two that depends on the sizes alone."""
        wanted = BLOCK_NUMBERS // (n_periods * len(self.names))
        return int(min(max(2, 1 << max(wanted.bit_length() - 1, 0)), LARGEST_BLOCK))

    def sample(
        self, n_scenarios: int, n_periods: int, *, rng: Rng, chunk_size: int | None = None
    ) -> Iterator[Floats]:
        """Draw scenarios.

        Parameters
        ----------
        n_scenarios, n_periods : int
        rng : int, SeedSequence or Generator
        chunk_size : int, optional
            Scenarios in a chunk; by default those of a block. The numbers do not depend on it.

        Yields
        ------
        array, shape (chunk, n_periods, n_assets)
            Simple decimal returns; entry t is earned over ``(t, t+1]``.

        Raises
        ------
        ModelError
            A count is below 1.
        DataError
            The law cannot be drawn from over that many periods.
        """
        check_counts(n_scenarios=n_scenarios, n_periods=n_periods)
        if chunk_size is not None:
            check_counts(chunk_size=chunk_size)
        return self._chunks(int(n_scenarios), int(n_periods), root_seed(rng), chunk_size)

    def _chunks(
        self, n: int, n_periods: int, seed: np.random.SeedSequence, chunk_size: int | None
    ) -> Iterator[Floats]:
        size = self.block_size(n_periods)
        draw = self.blocks(n_periods, size, seed)
        wanted = size if chunk_size is None else chunk_size
        waiting: list[Floats] = []
        for number in range(-(-n // size)):
            block = draw(number)[: n - number * size]
            while len(block):
                room = wanted - sum(len(part) for part in waiting)
                waiting.append(block[:room])
                block = block[room:]
                if sum(len(part) for part in waiting) == wanted:
                    yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
                    waiting = []
        if waiting:
            yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting)


def check_counts(**counts: int) -> None:
    """Refuse counts that are no whole numbers of at least 1.

    Raises
    ------
    ModelError
    """
    for name, count in counts.items():
        if isinstance(count, bool) or count != int(count) or count < 1:
            raise ModelError(f"{name}={count}: must be a whole number of at least 1")


def per_period(mean: ArrayLike, covariance: ArrayLike, *, periods_per_year: float) -> Moments:
    """Moments of a period from annual ones: both are divided by the number of periods.

    Right for log returns of independent periods. For simple returns it is the convention of the
    text books, which leaves compounding out.

    Parameters
    ----------
    mean, covariance : array, Series or DataFrame
        Per year.
    periods_per_year : float
        Such as 252 or 365 days, or the rows of the data over its years; 252 / 30 for periods of
        thirty days of which a year has 252.

    Raises
    ------
    ModelError
        `periods_per_year` is not positive.
    """
    if not 0.0 < periods_per_year < np.inf:
        raise ModelError(f"periods_per_year={periods_per_year}: must be a positive number")
    names = list(mean.index) if isinstance(mean, pd.Series) else None
    values, matrix = np.asarray(mean, dtype=float), np.asarray(covariance, dtype=float)
    return Moments.of(values / periods_per_year, matrix / periods_per_year, names)


@dataclass(frozen=True, eq=False)
class CallableLaw(ScenarioLaw):
    """A law that a function draws from.

    Parameters
    ----------
    function : callable
        ``function(n_scenarios, n_periods, rng)`` with a Generator returns simple decimal returns,
        shape (n_scenarios, n_periods, n_assets).
    asset_names : sequence of labels
    """

    function: Callable[[int, int, np.random.Generator], ArrayLike]
    asset_names: Sequence[Hashable]

    def __post_init__(self) -> None:
        names = checked_labels(self.asset_names, "asset_names", reserved=CASH)
        object.__setattr__(self, "asset_names", names)

    def blocks(self, n_periods: int, size: int, seed: np.random.SeedSequence) -> DrawBlock:
        """See `ScenarioLaw.blocks`.

        Raises
        ------
        DataError
            When a block is drawn: the function returned another shape, or a number that is not
            finite.
        """
        shape = (size, n_periods, len(self.names))

        def draw(number: int) -> Floats:
            rng = np.random.default_rng(child_seed(seed, number))
            returns = np.asarray(self.function(size, n_periods, rng), dtype=float)
            what = getattr(self.function, "__name__", "function")
            if returns.shape != shape:
                raise DataError(f"{what} returned shape {returns.shape}: must be {shape}")
            bad = np.argwhere(~np.isfinite(returns))
            if bad.size:
                s, t, i = (int(k) for k in bad[0])
                raise DataError(
                    f"{what} returned {returns[s, t, i]} for scenario {s}, period {t}, asset "
                    f"{self.names[i]!r}: must be finite ({len(bad)} such numbers)"
                )
            return returns

        return draw


@dataclass(frozen=True, eq=False)
class RegimeLaw(ScenarioLaw):
    """Fitted regimes in a hidden Markov chain, begun from a belief.

    Parameters
    ----------
    regimes : Regimes
        Of the assets' log returns, or of the factors where `factor_model` is given.
    belief : array, shape (n_states,)
        Law of the regime now; the first period is emitted by the regime after one move.
    factor_model : FittedFactorModel, optional
        Turns factors into assets.
    asset_names : sequence of labels, optional
        By default those of `factor_model` or of `regimes`.
    """

    regimes: Regimes
    belief: ArrayLike
    factor_model: FittedFactorModel | None = None
    asset_names: Sequence[Hashable] | None = None

    def __post_init__(self) -> None:
        model, names = self.factor_model, self.asset_names
        n = self.regimes.n_variables if model is None else model.n_assets
        if names is None:
            names = self.regimes.variable_names if model is None else model.asset_names
        labels = checked_labels(asset_labels(names, n), "asset_names", reserved=CASH)
        if len(labels) != n:
            raise DataError(f"asset_names={list(labels)}: must be {n} labels")
        belief = checked_probabilities(self.belief, self.regimes.n_states, "belief")
        object.__setattr__(self, "asset_names", labels)
        object.__setattr__(self, "belief", belief)

    def blocks(self, n_periods: int, size: int, seed: np.random.SeedSequence) -> DrawBlock:
        """See `ScenarioLaw.blocks`."""

        def draw(number: int) -> Floats:
            return simulate_regimes(
                self.regimes,
                self.factor_model,
                start=np.asarray(self.belief),
                n_paths=size,
                n_periods=n_periods,
                rng=child_seed(seed, number),
            ).returns

        return draw


@dataclass(frozen=True, eq=False)
class BootstrapLaw(ScenarioLaw):
    """History drawn in blocks of consecutive rows: the stationary bootstrap.

    Parameters
    ----------
    history : DataFrame or array, shape (n_rows, n_assets)
        Simple decimal returns, oldest first; one period is one row.
    block_length : float, optional
        Mean length of a block. By default that of Politis and White for the squares of the mean
        return of all assets, since volatility is what returns remember.
    """

    history: TableLike
    block_length: float | None = None
    asset_names: Sequence[Hashable] | None = None

    def __post_init__(self) -> None:
        table = read_table(self.history, "history")
        names = self.asset_names or table.names
        labels = asset_labels(names, table.values.shape[1])
        length = self.block_length
        if length is None:
            length = optimal_block_length(table.values.mean(axis=1) ** 2)
        if not (np.isfinite(length) and length >= 1.0):
            raise ModelError(f"block_length={length}: must be at least 1 row")
        object.__setattr__(self, "history", table.values)
        object.__setattr__(self, "block_length", float(length))
        checked = checked_labels(labels, "history", reserved=CASH)
        object.__setattr__(self, "asset_names", checked)

    def blocks(self, n_periods: int, size: int, seed: np.random.SeedSequence) -> DrawBlock:
        """See `ScenarioLaw.blocks`."""
        history = np.asarray(self.history)
        assert self.block_length is not None
        length = self.block_length

        def draw(number: int) -> Floats:
            rng = np.random.default_rng(child_seed(seed, number))
            drawn = draw_blocks(len(history), n_periods, block_length=length, n_draws=size, rng=rng)
            returns: Floats = history[drawn.rows()]
            return returns

        return draw


@dataclass(frozen=True, eq=False)
class MarkovLaw(ScenarioLaw):
    """The finitely many returns of a Markov chain of scenarios.

    Parameters
    ----------
    scenarios : MarkovScenarios
    regime : int or str, or array, shape (n_states,)
        Regime at the first decision, or a belief over it.
    """

    scenarios: MarkovScenarios
    regime: int | str | ArrayLike = 0
    asset_names: Sequence[Hashable] | None = None

    def __post_init__(self) -> None:
        s = self.scenarios
        if isinstance(self.regime, (int, str)):
            belief: ArrayLike = np.eye(s.n_states)[s.state_index(self.regime)]
        else:
            belief = self.regime
        checked = checked_probabilities(belief, s.n_states, "regime")
        object.__setattr__(self, "regime", checked)
        object.__setattr__(self, "asset_names", s.asset_names)

    def blocks(self, n_periods: int, size: int, seed: np.random.SeedSequence) -> DrawBlock:
        """See `ScenarioLaw.blocks`.

        Raises
        ------
        DataError
            The scenarios end before `n_periods`; one law for all stages has no end.
        """
        s = self.scenarios
        n_stages = s.returns.shape[0]
        if n_periods > n_stages and not s.stationary:
            raise DataError(
                f"n_periods={n_periods}: must be at most {n_stages}, the stages of the scenarios"
            )
        assert s.probabilities is not None
        moves, chances = np.cumsum(s.transition_matrix, axis=2), np.cumsum(s.probabilities, axis=2)
        start = np.cumsum(np.asarray(self.regime, dtype=float))

        def draw(number: int) -> Floats:
            rng = np.random.default_rng(child_seed(seed, number))
            uniform = rng.random((2 * n_periods + 1, size))
            regime = _inverse(start, uniform[0])
            returns = np.empty((size, n_periods, s.n_assets))
            for t in range(n_periods):
                stage = min(t, n_stages - 1)
                regime = _inverse(moves[stage][regime], uniform[2 * t + 1])
                scenario = _inverse(chances[stage][regime], uniform[2 * t + 2])
                returns[:, t] = s.returns[stage, regime, scenario]
            return returns

        return draw


def _inverse(sums: Floats, uniform: Floats) -> Ints:
    """Positions whose cumulated probabilities hold some uniform numbers."""
    below = uniform[:, None] >= sums
    positions: Ints = np.minimum(below.sum(axis=1), sums.shape[-1] - 1)
    return positions


def law_moments(law: ScenarioLaw, n_scenarios: int, *, rng: Rng) -> Moments:
    """Mean and covariance of a law's first period, estimated from draws."""
    count, first, second = 0, np.zeros(len(law.names)), np.zeros((len(law.names),) * 2)
    with one_blas_thread():
        for chunk in law.sample(n_scenarios, 1, rng=rng):
            count += len(chunk)
            first += chunk[:, 0].sum(axis=0)
            second += chunk[:, 0].T @ chunk[:, 0]
    mean = first / count
    return Moments.of(mean, second / count - np.outer(mean, mean), law.names)
