"""Answers of a policy by compiled visits, none of which depends on those before it."""

from __future__ import annotations

from sddp.arrays import Floats
from sddp.engine.compiled.subproblems import CompiledSubproblems
from sddp.engine.compiled.visitor import NodeMemory
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.subproblem.solutions import StageSolution
from sddp.engine.subproblem.subproblems import restore_subproblems
from sddp.engine.value.checkpoint import Checkpoint


class CompiledAnswers:
    """The programs of a policy, each asked from the memory that its reference state leaves.

    Parameters
    ----------
    problem : Problem
    checkpoint : Checkpoint
    """

    def __init__(self, problem: Problem, checkpoint: Checkpoint) -> None:
        restored = restore_subproblems(problem, checkpoint, kind=CompiledSubproblems)
        assert isinstance(restored, CompiledSubproblems)
        self._subproblems, self._checkpoint = restored, checkpoint
        self._starts: dict[NodeName, NodeMemory] = {}

    def solve(self, name: NodeName, incoming: Floats, noise: int) -> StageSolution | None:
        """Solution at a state, refined to the policy's tolerance; None where none is settled.

        `noise` is a position in the support.
        """
        visitor = self._subproblems.visitor
        k = visitor.number[name]
        if name in self._starts:
            visitor.restore(k, self._starts[name])
        else:
            self._start(name)
        return self._subproblems.settled(name, incoming, noise, self._checkpoint.tolerance)

    def _start(self, name: NodeName) -> None:
        visitor = self._subproblems.visitor
        k, reference = visitor.number[name], self._checkpoint.nodes[name].reference
        visitor.forget_tails()
        if reference is not None:
            visitor.visit(k, 0, reference, self._checkpoint.tolerance)
        self._starts[name] = visitor.remembered(k)
