"""A stage ready to be solved: translated, reduced, and with the way back to its variables."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from sddp.engine.compile import CompiledStage, compile_stage
from sddp.engine.expansion import Expansion
from sddp.engine.reduction import ReducedStage, reduce_stage
from sddp.engine.stage import RowGenerator, Stage


class PreparedStage(NamedTuple):
    """Made by `prepare_stage`; many linear programmes may share one."""

    compiled: CompiledStage
    reduced: ReducedStage
    expansion: Expansion

    def with_rows(self, rows: RowGenerator) -> PreparedStage:
        """The same stage with another generator over the same variables."""
        stage = replace(self.compiled.stage, rows=rows)
        return self._replace(compiled=replace(self.compiled, stage=stage))


def prepare_stage(stage: Stage, where: str) -> PreparedStage:
    """Translate and reduce a stage; `where` names it in error messages."""
    compiled = compile_stage(stage, where)
    reduced = reduce_stage(compiled)
    return PreparedStage(compiled, reduced, Expansion(compiled, reduced))
