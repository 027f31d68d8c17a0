"""Cache of trained policies, keyed by model, scenarios and settings of the training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sddp.allocation.model import AllocationModel
from sddp.allocation.policy import AllocationPolicy, load_allocation_policy
from sddp.allocation.problem import allocation_problem
from sddp.allocation.training import AllocationResult, train_allocation
from sddp.cache.fingerprint import describe
from sddp.cache.store import Record, read_record, store_key, write_record
from sddp.engine.training.checkpoints import Checkpoints
from sddp.engine.training.stopping import LogEntry, StoppingRule
from sddp.engine.training.train import INTERRUPTED
from sddp.errors import DataError, PolicyFileError, StoreWarning
from sddp.labels import CASH
from sddp.scenarios import MarkovScenarios

# A policy in money per unit of cash: every decision scales with what is held.
START: Mapping[Hashable, float] = {CASH: 1.0}


@dataclass(frozen=True)
class Trained:
    """A trained policy.

    Attributes
    ----------
    policy : AllocationPolicy
    log : DataFrame
        Of the training, as in `AllocationResult`; also where an earlier one was found.
    stopped_because : str
    result : AllocationResult or None
        What came of the training; None where an earlier one was found.
    """

    policy: AllocationPolicy
    log: pd.DataFrame
    stopped_because: str
    result: AllocationResult | None


@dataclass(frozen=True)
class TrainingCache:
    """Policies trained so far, on disk, and checkpoints of a training that is under way.

    Strategies that follow the same policies in other ways (run through them or begin anew each
    time, trade with another lag, or at other costs than their model believes) train them once.

    Parameters
    ----------
    folder : path, optional
        Of the store; policies go to ``policies`` in it, some ten kilobytes each. Without it
        nothing is kept.
    on_iteration : callable, optional
        Called with the iterations done, after each one of a training.
    """

    folder: str | Path | None = None
    on_iteration: Callable[[int], object] | None = None

    def train(
        self,
        model: AllocationModel,
        scenarios: MarkovScenarios,
        *,
        initial_regime: int,
        stopping: StoppingRule,
        rng: np.random.Generator,
        initial_holdings: Mapping[Hashable, float] = START,
    ) -> Trained:
        """`train_allocation`, or the policy that came of the same arguments before.

        The decisions of a policy that was kept are those of the trained one, bit for bit.

        Raises
        ------
        DataError
            The folder cannot be written to.
        KeyboardInterrupt
            Training was interrupted; its last checkpoint is kept.
        """
        path = self._path([model, scenarios, initial_regime, stopping, rng, initial_holdings])
        checkpoints = Checkpoints(None if path is None else path.with_suffix(".part"))
        kept = (
            None
            if path is None
            else _kept(path, model, scenarios, initial_regime, initial_holdings)
        )
        if kept is not None:
            return kept
        try:
            result = train_allocation(
                model,
                scenarios,
                initial_holdings=initial_holdings,
                initial_regime=initial_regime,
                stopping=stopping,
                rng=rng,
                progress=False,
                checkpoints=checkpoints,
                on_iteration=self._told,
            )
            if result.stopped_because == INTERRUPTED:
                raise KeyboardInterrupt  # a backtest on half-trained policies would mean nothing
        except KeyboardInterrupt as interrupt:
            if path is not None:
                interrupt.add_note("run again, the training goes on from its last checkpoint")
            raise
        trained = Trained(result.policy, result.log, result.stopped_because, result)
        if path is not None:
            _keep(trained, path)
        checkpoints.forget()
        return trained

    def _told(self, entry: LogEntry) -> None:
        if self.on_iteration is not None:
            self.on_iteration(entry.iteration)

    def _path(self, arguments: list[object]) -> Path | None:
        if self.folder is None:
            return None
        key = store_key(describe(arguments))
        return Path(self.folder) / "policies" / key[:2] / f"{key}.json"


def _kept(
    path: Path,
    model: AllocationModel,
    scenarios: MarkovScenarios,
    initial_regime: int,
    initial_holdings: Mapping[Hashable, float],
) -> Trained | None:
    told = read_record(_beside(path)) if path.exists() else None
    if told is None:
        return None
    problem = allocation_problem(
        model, scenarios, initial_holdings=initial_holdings, initial_regime=initial_regime
    )
    try:
        policy = load_allocation_policy(path, problem)
    except PolicyFileError as error:
        warnings.warn(f"{error}; it is trained again", StoreWarning, stacklevel=3)
        return None
    log = pd.DataFrame({name: told.arrays[name] for name in told.facts["columns"]})
    return Trained(policy, log.set_index("iteration"), told.facts["stopped_because"], None)


def _keep(trained: Trained, path: Path) -> None:
    log = trained.log.reset_index()
    names = [str(name) for name in log.columns]
    facts = {"columns": names, "stopped_because": trained.stopped_because}
    # The log goes first: a policy without one is not found again.
    write_record(_beside(path), Record({name: log[name].to_numpy() for name in names}, facts))
    try:
        trained.policy.save(path)
    except (OSError, PolicyFileError) as error:
        raise DataError(f"the store cannot write {path}: {error}; choose another folder") from error


def _beside(path: Path) -> Path:
    """File of the training's log."""
    return path.with_suffix(".npz")
