"""Trained policies that are kept and shared: found by the content that they follow from."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sddp.allocation.model import CASH, AllocationModel
from sddp.allocation.policy import AllocationPolicy, load_allocation_policy
from sddp.allocation.problem import allocation_problem
from sddp.allocation.training import AllocationResult, train_allocation
from sddp.backtest.describe import describe
from sddp.backtest.store import store_key
from sddp.engine.stopping import StoppingRule
from sddp.engine.training import INTERRUPTED
from sddp.errors import DataError, PolicyFileError, StoreWarning
from sddp.scenarios import MarkovScenarios

# A policy in money per unit of cash: every decision scales with what is held.
START = {CASH: 1.0}


@dataclass(frozen=True)
class Trained:
    """A trained policy.

    Attributes
    ----------
    policy : AllocationPolicy
    result : AllocationResult or None
        What came of the training; None where an earlier one was found.
    """

    policy: AllocationPolicy
    result: AllocationResult | None


@dataclass(frozen=True)
class TrainingCache:
    """Policies trained so far, on disk.

    Strategies that follow the same policies in other ways (run through them or begin anew each
    time, trade with another lag, or at other costs than their model believes) train them once.

    Parameters
    ----------
    folder : path, optional
        Of the store; policies go to ``policies`` in it, some ten kilobytes each. Without it
        nothing is kept.
    """

    folder: str | Path | None = None

    def train(
        self,
        model: AllocationModel,
        scenarios: MarkovScenarios,
        *,
        initial_regime: int,
        stopping: StoppingRule,
        rng: np.random.Generator,
    ) -> Trained:
        """`train_allocation` from cash, or the policy that came of the same arguments before.

        The decisions of a policy that was kept are those of the trained one, bit for bit.

        Raises
        ------
        DataError
            The folder cannot be written to.
        KeyboardInterrupt
            Training was interrupted; nothing is kept.
        """
        path = self._path([model, scenarios, initial_regime, stopping, rng])
        kept = None if path is None else _kept(path, model, scenarios, initial_regime)
        if kept is not None:
            return Trained(kept, None)
        result = train_allocation(
            model,
            scenarios,
            initial_holdings=START,
            initial_regime=initial_regime,
            stopping=stopping,
            rng=rng,
            progress=False,
        )
        if result.stopped_because == INTERRUPTED:
            raise KeyboardInterrupt  # a backtest on half-trained policies would mean nothing
        if path is not None:
            _keep(result.policy, path)
        return Trained(result.policy, result)

    def _path(self, arguments: list[object]) -> Path | None:
        if self.folder is None:
            return None
        key = store_key(describe(arguments))
        return Path(self.folder) / "policies" / key[:2] / f"{key}.json"


def _kept(
    path: Path, model: AllocationModel, scenarios: MarkovScenarios, initial_regime: int
) -> AllocationPolicy | None:
    if not path.exists():
        return None
    problem = allocation_problem(
        model, scenarios, initial_holdings=START, initial_regime=initial_regime
    )
    try:
        return load_allocation_policy(path, problem)
    except PolicyFileError as error:
        warnings.warn(f"{error}; it is trained again", StoreWarning, stacklevel=3)
        return None


def _keep(policy: AllocationPolicy, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        policy.save(path)
    except (OSError, PolicyFileError) as error:
        raise DataError(f"the store cannot write {path}: {error}; choose another folder") from error
