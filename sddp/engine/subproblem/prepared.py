"""A stage ready to be solved: translated, reduced, and with the way back to its variables."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from sddp.engine.model.stage import InitialCut, RowGenerator, Stage
from sddp.engine.subproblem.compile import CompiledStage
from sddp.engine.subproblem.expansion import Expansion
from sddp.engine.subproblem.reduction import ReducedStage, reduce_stage
from sddp.engine.subproblem.translation import compile_stage
from sddp.errors import ModelError


class PreparedStage(NamedTuple):
    """A closed stage, made by `prepare_stage`; nodes of equal content share one.

    A builder may return one in the place of a `Stage`, with the initial cuts of its node.
    """

    compiled: CompiledStage
    reduced: ReducedStage
    expansion: Expansion
    initial_cuts: Sequence[InitialCut] = ()

    def with_rows(self, rows: RowGenerator) -> PreparedStage:
        """The same stage with another generator over the same variables."""
        return self._replace(compiled=replace(self.compiled, rows=rows))


def prepare_stage(stage: Stage, where: str) -> PreparedStage:
    """Translate and reduce a stage; `where` names it in error messages."""
    return prepared(compile_stage(stage, where), where)


def prepared(compiled: CompiledStage, where: str) -> PreparedStage:
    """Reduce a compiled stage, and give it a row generator that nobody else can change."""
    if compiled.rows is not None:
        try:
            compiled = replace(compiled, rows=copy.deepcopy(compiled.rows))
        except Exception as error:  # whatever a user's class raises
            raise ModelError(
                f"{where}: rows={compiled.rows!r} cannot be copied: {error}; a row generator holds "
                "plain data"
            ) from error
    reduced = reduce_stage(compiled)
    return PreparedStage(compiled, reduced, Expansion(compiled, reduced))
