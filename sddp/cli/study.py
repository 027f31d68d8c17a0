"""The command line of a study: ``python -m experiments.NAME``, or one of a user's own.

A study states what is its own in a `Study`; `Study.main` gives it the options that all studies
share, the folder of results, the run record, the store, progress, and the exit codes of every
command.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sddp import cli
from sddp.cli import options as opt
from sddp.cli.exit_codes import DONE, WHAT_IS_KEPT
from sddp.cli.output import Result, filled

if TYPE_CHECKING:
    from sddp.studies.record import Run, RunFiles
    from sddp.studies.tasks import TaskPool


@dataclass(frozen=True)
class Study:
    """What distinguishes one study from another.

    Attributes
    ----------
    name : str
        Results go to ``results/<name>``, those of a quick run to ``results/<name>_quick``.
    description : str
        Shown by ``--help``.
    settings : callable
        Takes the parsed options and returns what the numbers of the study depend on: a dataclass
        or a mapping. ``options.quick`` and ``options.seed`` (None where not given) are in them.
    run : callable
        Takes a `StudyRun`, writes the tables of the study and returns its headline results.
    plot : callable, optional
        Takes the folder of a finished run and draws the figures from its tables.
    add_options : callable, optional
        Takes the parser and adds the study's own options.
    shown : mapping of str to sequence of str
        Columns of the tables that are printed for people, by table.
    text : callable, optional
        Takes the headline results and says them to people, before the tables.
    code : callable
        Exit code for the headline results.
    measures_code : bool
        The study measures or tests the code itself: answers of its tasks are found again only by
        an interrupted run of the same code, and the next complete run works everything out anew.
    """

    name: str
    description: str | None
    settings: Callable[[argparse.Namespace], Any]
    run: Callable[[StudyRun], Mapping[str, Any]]
    plot: Callable[[RunFiles], object] | None = None
    add_options: Callable[[argparse.ArgumentParser], object] | None = None
    shown: Mapping[str, Sequence[str]] = field(default_factory=dict)
    text: Callable[[Mapping[str, Any]], str] | None = None
    code: Callable[[Mapping[str, Any]], int] = lambda _: DONE
    measures_code: bool = False

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run the command line; returns the exit code (see `sddp.cli.exit_codes`)."""
        return cli.execute(lambda: opt.parse(parser(self), arguments))


@dataclass(frozen=True, eq=False)
class StudyRun:
    """One run of a study.

    Attributes
    ----------
    study : Study
    options : Namespace
    config : object
        What `Study.settings` returned.
    record : Run
        Takes tables and inputs.
    store : str
        Folder of finished work, for caches of fits, trainings and backtests.
    finished : dict
        Headline results so far: what is recorded where the run is interrupted.
    """

    study: Study
    options: argparse.Namespace
    config: Any
    record: Run
    store: str
    finished: dict[str, Any] = field(default_factory=dict)

    @property
    def n_jobs(self) -> int:
        """Processes."""
        return int(self.options.jobs)

    @property
    def progress(self) -> bool:
        """Whether to show progress on the error stream."""
        return not self.options.quiet

    @cached_property
    def tasks(self) -> TaskPool:
        """Does tasks in parallel, each only once."""
        from sddp.studies.tasks import TaskPool

        return TaskPool(self.task_folder, self.n_jobs, self.progress)

    @cached_property
    def task_folder(self) -> Path:
        """Where answers of tasks are kept."""
        from sddp.studies.record import code_digest

        folder = Path(self.store) / self.study.name
        return folder / code_digest() if self.study.measures_code else folder


def parser(study: Study) -> opt.Parser:
    """Parser of the options that all studies share, and of those of this one."""
    found = opt.Parser(
        prog=study.name,
        description=study.description,
        formatter_class=opt.Help,
        allow_abbrev=False,
    )
    out = f"results/{study.name}"
    if study.add_options is not None:
        study.add_options(found)
    group = found.add_argument_group("run")
    group.add_argument("--quick", action="store_true", help="a small run of some seconds")
    if study.plot is not None:
        group.add_argument(
            "--replot",
            action="store_true",
            help="draw the figures of the results in --out anew, from its tables; solves nothing",
        )
    group.add_argument("--seed", type=opt.natural, metavar="N", help="seed of all random numbers")
    group.add_argument(
        "--jobs",
        type=opt.positive,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes (default: one on each core); the numbers do not depend on it",
    )
    group.add_argument(
        "--out",
        metavar="FOLDER",
        help=f"folder for tables, figures and run.json (default {out}, with --quick {out}_quick); "
        "replaced as a whole at the end",
    )
    opt.add_resume(group)
    opt.add_common(found, lambda options: _run(study, options))
    return found


def _run(study: Study, options: argparse.Namespace) -> Result:
    if options.out is None:
        options.out = f"results/{study.name}" + ("_quick" if options.quick else "")
    if getattr(options, "replot", False):
        return _replot(study, options)
    if options.quick:
        _check_not_committed(options.out)
    from sddp.studies.record import Run

    config = study.settings(options)
    keep = bool(getattr(options, "only", None))  # a part alone renews its own tables
    with Run(options.out, config, keep=keep) as record, opt.store_of(options) as store:
        job = StudyRun(study, options, config, record, store)
        try:
            results = study.run(job)
        except KeyboardInterrupt as interrupt:
            aside = record.set_aside(job.finished)
            if aside is not None:
                interrupt.add_note(f"{WHAT_IS_KEPT}; the tables so far are in {aside}")
            raise
        if study.plot is not None:
            study.plot(record)
        record.finish("complete", results)
        _forget_measurements(job)
    return Result(
        {"status": "complete", "out": options.out, **results},
        lambda width: _text(study, record, results, options.out, width),
        study.code(results),
    )


def _replot(study: Study, options: argparse.Namespace) -> Result:
    from sddp.errors import DataError
    from sddp.studies.folder import RECORD, ResultFolder
    from sddp.studies.record import RunFiles

    if not (Path(options.out) / RECORD).is_file():
        raise DataError(
            f"--replot: {options.out} holds no finished run; name its folder with --out, or run "
            "the study without --replot"
        )
    assert study.plot is not None
    with ResultFolder(options.out, keep=True) as folder:
        files = RunFiles(folder.path)
        study.plot(files)
        folder.replace()
    return Result(
        {"status": "replotted", "out": options.out, "figures": files.figures},
        f"Figures: {options.out}",
    )


def _check_not_committed(out: str) -> None:
    """A quick run does not write where committed results are.

    Raises
    ------
    DataError
    """
    from sddp.errors import DataError

    # By name: an installed package does not know where a checkout lies.
    place = Path(out).resolve()
    places = [(folder.parent.name, folder.name) for folder in (place, *place.parents)]
    if ("experiments", "results") in places:
        raise DataError(
            f"--out {out}: holds committed results, which --quick does not replace; name another "
            "folder"
        )


def _forget_measurements(job: StudyRun) -> None:
    if job.study.measures_code:
        import shutil

        shutil.rmtree(job.task_folder, ignore_errors=True)


def _text(study: Study, record: Run, results: Mapping[str, Any], out: str, width: int) -> str:
    """The results for people."""
    blocks = [] if study.text is None else [study.text(results)]
    for name, columns in study.shown.items():
        if name in record.tables:
            table = record.tables[name][list(columns)]
            shown = table.to_string(float_format=lambda value: f"{value:.5g}", line_width=width)
            blocks.append(f"{name}\n{shown}")
    blocks.append(filled([f"Tables, figures and run.json: {out}"], width))
    return "\n\n".join(blocks)
