"""Pool of tasks of a study: run in parallel, each answer stored, so that a run can resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import joblib

from sddp.cache.fingerprint import describe
from sddp.cache.store import Record, read_record, store_key, write_record
from sddp.display.progress import ProgressDisplay
from sddp.plain import Decoder, Encoder
from sddp.threads import one_blas_thread


class Task(NamedTuple):
    """One piece of work.

    Attributes
    ----------
    work : callable
        A function of a module. Its answer is plain data: numbers, texts, arrays, tables,
        and mappings, sequences and dataclasses of these.
    arguments : tuple
    about : object
        Everything that the answer depends on beside the code, see `sddp.cache.fingerprint`: the
        answer is found again by it and by the name of the function.
    """

    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    about: Any


@dataclass
class TaskPool:
    """Runs tasks in parallel and stores their answers.

    The answers do not depend on the number of jobs, provided that each task draws its random
    numbers from a seed of its own.

    Attributes
    ----------
    folder : path or None
        Answers are kept in it as soon as they are there. A run that was interrupted or killed goes
        on from them to the same bits. None keeps nothing.
    n_jobs : int
        Tasks at a time; -1 is one on each core.
    progress : bool
        Whether to show progress on the error stream.
    seconds : dict of str to float
        By unit: what the answers took, whenever they were worked out.
    """

    folder: str | Path | None = None
    n_jobs: int = 1
    progress: bool = True
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, unit: str, tasks: Sequence[Task]) -> list[Any]:
        """Answers in the order of the tasks.

        Parameters
        ----------
        unit : str
            What one task is called where progress is shown, such as ``"policy"``.
        tasks : sequence of Task

        Raises
        ------
        DataError
            The folder cannot be written to.
        KeyboardInterrupt
            After Ctrl-C; finished answers are kept.
        """
        jobs = (joblib.delayed(_answered)(self.folder, task) for task in tasks)
        answers: Iterable[tuple[Any, float]]
        # A single task needs no process of its own.
        n_jobs = 1 if len(tasks) == 1 else self.n_jobs
        answers = joblib.Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
        display = ProgressDisplay(len(tasks), unit, wanted=self.progress)
        found, spent = [], 0.0
        try:
            for answer, seconds in answers:
                found.append(answer)
                spent += seconds
                display.update(len(found))
        finally:
            display.close()
        self.seconds[unit] = self.seconds.get(unit, 0.0) + spent
        return found


def _answered(folder: str | Path | None, task: Task) -> tuple[Any, float]:
    """Answer of a task, read from the store or computed and stored; and its seconds."""
    if folder is None:
        return _worked_out(task)
    key = store_key(describe([task.work, task.about]))
    path = Path(folder) / key[:2] / f"{key}.npz"
    record = read_record(path)
    if record is None:
        answer, seconds = _worked_out(task)
        encoder = Encoder({})
        document = encoder.encode(answer, f"the answer of {task.work.__name__}")
        facts = {"seconds": seconds, "answer": document, "arrays": encoder.arrays}
        write_record(path, record := Record({}, facts))
    # An answer is read even where it has just been written: nobody can tell a resumed run.
    decoder = Decoder({}, record.facts["arrays"], is_dataclass)
    return decoder.decode(record.facts["answer"]), record.facts["seconds"]


def _worked_out(task: Task) -> tuple[Any, float]:
    started = time.perf_counter()
    with one_blas_thread():
        answer = task.work(*task.arguments)
    return answer, time.perf_counter() - started
