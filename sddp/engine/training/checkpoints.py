"""A training in parts, each of which ends in a file: what stops it costs one part at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sddp.engine.model.problem import Problem
from sddp.engine.policy.files import load_file, save_policy
from sddp.engine.policy.policy import Policy
from sddp.engine.training.interrupt import deferred_interrupt
from sddp.engine.training.loop import OnIteration
from sddp.engine.training.result import TrainingResult
from sddp.engine.training.stopping import LogEntry, Progress, StoppingRule
from sddp.engine.training.train import INTERRUPTED, train
from sddp.engine.value.cost_to_go import CutForm
from sddp.engine.value.value_functions import RiskChoice
from sddp.errors import DataError, ModelError, PolicyFileError
from sddp.risk import RiskMeasure
from sddp.rng import Rng, generator

FILE = "checkpoint.json"

# Names in the file.
NAMES: Mapping[type, str] = {LogEntry: "log entry"}

_PART_ENDS = "the part has ended"


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints of a training, and the training that goes on from the last of them.

    The training runs in parts of `every` iterations. Each part starts from the policy, the log and
    the random numbers that the one before has left in a file, which is replaced as a whole. So a
    training that was interrupted or killed and is run again with the same arguments gives the same
    numbers, bit for bit, as one that was not; they depend on `every`, and up to the first `every`
    iterations they are those of `train`.

    Parameters
    ----------
    folder : path or None
        Where the file is kept; made when it is first written. One folder serves one training:
        its problem, settings and random numbers. None keeps nothing and gives the same numbers.
    every : int
        Iterations of a part. A part starts by compiling the problem and by finding its rows again:
        fifty iterations take several times as long.
    """

    folder: str | Path | None
    every: int = 50

    def __post_init__(self) -> None:
        if isinstance(self.every, bool) or self.every < 1:
            raise ModelError(f"every={self.every!r}: must be a positive integer")

    def train(
        self,
        problem: Problem,
        *,
        rng: Rng,
        stopping: StoppingRule,
        risk: RiskChoice = None,
        root_risk: RiskMeasure | None = None,
        cuts: CutForm | None = None,
        start: Policy | None = None,
        on_iteration: OnIteration | None = None,
        **settings: Any,
    ) -> TrainingResult:
        """Train as `sddp.train` does, in parts.

        Parameters
        ----------
        problem, rng, stopping, risk, root_risk, cuts, start, on_iteration, **settings :
            As of `train`.

        Returns
        -------
        TrainingResult
            With the log of all parts; `TrainingResult.work` is that of the last part. After Ctrl-C
            its policy is what was learned until then, and the file is that of the last whole part.

        Raises
        ------
        DataError
            The file cannot be written, or is one of a training with other random numbers.
        InfeasibleProblem, SolverError, ModelError
            As `train`.
        """
        rng = generator(rng)
        part = self._last(problem, rng) or _Part(start=start)
        # A part that is not the first has them from its start.
        known: dict[str, Any] = {"risk": risk, "root_risk": root_risk, "cuts": cuts}
        known = {} if part.log else known
        with deferred_interrupt() as interrupt:  # between two parts
            while True:
                rule = _UntilPartEnds(stopping, part.log, self.every, part.memory)
                found = train(
                    problem,
                    rng=rng,
                    stopping=rule,
                    start=part.start,
                    on_iteration=partial(_tell, on_iteration, rule),
                    **known,
                    **settings,
                )
                log = rule.entries(_entries(found.log))
                if found.stopped_because != _PART_ENDS:
                    return replace(found, log=_table(log))
                part = _Part(found.policy, log, rule.memory)
                if self.folder is not None:
                    self._keep(part, rng)
                    part = self._last(problem, rng) or part
                if interrupt.requested:
                    return replace(found, log=_table(log), stopped_because=INTERRUPTED)
                known = {}

    def forget(self) -> None:
        """Remove the file: the training is over and kept elsewhere."""
        if self.folder is not None:
            self._path.unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        assert self.folder is not None
        return Path(self.folder) / FILE

    def _keep(self, part: _Part, rng: np.random.Generator) -> None:
        assert part.start is not None
        extra = {"log": list(part.log), "memory": part.memory, **_state(rng)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            save_policy(part.start.problem, part.start.checkpoint, self._path, extra, NAMES)
        except (OSError, PolicyFileError) as error:
            raise DataError(
                f"the checkpoint {self._path} cannot be written: {error}; choose another folder"
            ) from error

    def _last(self, problem: Problem, rng: np.random.Generator) -> _Part | None:
        """The last whole part; `rng` is brought to where that left it."""
        if self.folder is None or not self._path.exists():
            return None
        try:
            found = load_file(self._path, problem, NAMES)
        except PolicyFileError as error:
            raise DataError(f"{error} (remove the file to train from the beginning)") from error
        sequence: Any = rng.bit_generator.seed_seq
        kept = found.extra
        now = _state(rng)
        missing = kept["spawned"] - now["spawned"]
        if kept["seed"] != now["seed"] or missing < 0:
            raise DataError(
                f"{self._path}: is a checkpoint of a training with other random numbers; give the "
                "same rng, or remove the file"
            )
        sequence.spawn(missing)
        return _Part(Policy(found.problem, found.checkpoint), tuple(kept["log"]), kept["memory"])


@dataclass(frozen=True, eq=False)
class _Part:
    """What the next part starts from."""

    start: Policy | None
    log: Sequence[LogEntry] = ()
    memory: dict[StoppingRule, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _UntilPartEnds(StoppingRule):
    """A rule that sees the log of all parts; the end of a part stops a training too."""

    rule: StoppingRule
    before: Sequence[LogEntry]
    every: int
    memory: dict[StoppingRule, Any]

    def reason(self, progress: Progress) -> str | None:
        """That of the rule, or that the part has ended."""
        log = self.entries(progress.log)
        found = self.rule.reason(replace(progress, log=log, memory=self.memory))
        return found or (_PART_ENDS if len(progress.log) >= self.every else None)

    def entries(self, log: Sequence[LogEntry]) -> list[LogEntry]:
        """All parts until now: what counts since training began goes on counting."""
        if not self.before:
            return list(log)
        last = self.before[-1]
        later = [
            replace(
                entry,
                iteration=last.iteration + entry.iteration,
                seconds=last.seconds + entry.seconds,
                solves=last.solves + entry.solves,
                warnings=last.warnings + entry.warnings,
                fallbacks=last.fallbacks + entry.fallbacks,
            )
            for entry in log
        ]
        return [*self.before, *later]


def _tell(on_iteration: OnIteration | None, rule: _UntilPartEnds, entry: LogEntry) -> None:
    if on_iteration is not None:
        on_iteration(rule.entries([entry])[-1])


def _state(rng: np.random.Generator) -> dict[str, Any]:
    """What tells one stream of random numbers from another, and how many children it has had."""
    sequence: Any = rng.bit_generator.seed_seq
    return {
        "seed": [str(sequence.entropy), list(sequence.spawn_key)],
        "spawned": sequence.n_children_spawned,
    }


def _entries(log: pd.DataFrame) -> list[LogEntry]:
    rows: list[dict[str, Any]] = log.reset_index().to_dict("records")  # type: ignore[assignment]
    return [LogEntry(**row) for row in rows]


def _table(log: Sequence[LogEntry]) -> pd.DataFrame:
    columns = list(LogEntry.__dataclass_fields__)
    return pd.DataFrame([asdict(entry) for entry in log], columns=columns).set_index("iteration")
