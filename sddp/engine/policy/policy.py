"""A trained policy: decides, simulates, values; a pure function of what it is asked."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.display.shown import Shown, number
from sddp.engine.certificate.certificate import Certificate, certify
from sddp.engine.model.graph import NodeName
from sddp.engine.model.noise_choice import NoiseChoice, noise_entries, noise_position
from sddp.engine.model.problem import Problem
from sddp.engine.model.sampling import InSample, SamplingScheme, Successors
from sddp.engine.policy.contradiction import warn_of_contradiction
from sddp.engine.policy.files import load_file, save_policy
from sddp.engine.policy.simulation import simulate
from sddp.engine.presolve.compile import presolve_stage
from sddp.engine.presolve.presolve import PresolvedStage
from sddp.engine.stage.declaration import Stage
from sddp.engine.stage.file import checked_path
from sddp.engine.stage.stage_data import StageData, noise_values
from sddp.engine.subproblem.feasibility import Infeasibility
from sddp.engine.subproblem.solutions import StageSolution
from sddp.engine.subproblem.subproblem import Subproblem
from sddp.engine.subproblem.subproblems import restore_subproblems
from sddp.engine.value.checkpoint import Checkpoint, NodeState
from sddp.engine.value.outcomes import first_outcomes
from sddp.engine.value.value_functions import Arcs
from sddp.errors import InfeasibleState, ModelError, NumericalWarning
from sddp.lp import Basis
from sddp.risk import Expectation, RiskMeasure, as_risk_measure
from sddp.rng import Rng
from sddp.threads import one_blas_thread

if TYPE_CHECKING:
    from sddp.engine.policy.compiled_answers import CompiledAnswers


@dataclass(frozen=True, eq=False, repr=False)
class Decision(Shown):
    """What a policy does in one state.

    Attributes
    ----------
    variables : dict
        Value of every Pyomo variable of the stage, by name.
    outgoing : dict
        State handed on, by state name (a dictionary over the index where it has one).
    stage_objective : float
        Objective of this stage alone.
    cost_to_go : float
        What follows is worth this under the policy's cuts (optimistic).
    slope : array, shape (n_components,)
        Derivative of ``stage_objective + cost_to_go`` with respect to the incoming state.
    """

    variables: dict[str, float]
    outgoing: dict[str, Any]
    stage_objective: float
    cost_to_go: float
    slope: Floats

    @property
    def value(self) -> float:
        """Stage objective plus cost-to-go."""
        return self.stage_objective + self.cost_to_go

    def _facts(self) -> dict[str, str]:
        return {
            "value": number(self.value),
            "stage objective": number(self.stage_objective),
            "cost-to-go": number(self.cost_to_go),
            "variables": str(len(self.variables)),
        }

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {"Variables": pd.DataFrame({"value": pd.Series(self.variables, dtype=float)})}


class Policy(Shown):
    """Decisions by trained cuts. Made by `train` or `load_policy`.

    A node asked for the first time is solved at its reference state; every answer starts from the
    rows and the basis found there, so it does not depend on what was asked before. Rows that a
    question needs do not outlive it.
    """

    def __init__(self, problem: Problem, checkpoint: Checkpoint) -> None:
        self.problem, self.checkpoint = problem, checkpoint
        self._subproblems = restore_subproblems(problem, checkpoint)
        self._value_functions = self._subproblems.value_functions
        self._starts: dict[NodeName, tuple[NodeState, Basis | None]] = {}
        self._lock = Lock()  # the LPs behind the answers serve one question at a time
        self._bound: float | None = None
        # Points of training for `certificate`, the latest first, and the cost that it has shown
        # to be attained; not part of copies and files.
        self.trial_states: dict[int, Floats] = {}
        self.attained_cost = np.inf

    def __reduce__(self) -> tuple[type[Policy], tuple[Problem, Checkpoint]]:
        """Copies and pickles hold what the policy consists of; solvers cannot be copied."""
        return type(self), (self.problem, self.checkpoint)

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        """Names of the decisions."""
        return tuple(self.problem.graph.nodes)

    @property
    def bound(self) -> float:
        """Value of the problem under the cuts: optimistic, and exact once converged."""
        if self._bound is None:
            self._bound = self.problem.sign * self._root_value()
        return self._bound

    def decide(
        self, node: NodeName, state: Mapping[str, Any], noise: NoiseChoice = None
    ) -> Decision:
        """Decision at a node.

        Parameters
        ----------
        node : hashable
        state : mapping from state name to value
            Incoming state: a number, or a mapping / sequence over the state's index.
        noise : mapping from parameter name to float, or int, optional
            What was seen before deciding: values (in the support or not), or a position in the
            support. Not needed where the node has no noise.

        Raises
        ------
        InfeasibleState
            No decision from this state keeps all constraints, now and later.
        ModelError
            Node, state or noise are unknown or incomplete.
        """
        compiled = self._compiled(node)
        incoming = compiled.states.flatten(state)
        return self._decision(compiled, *self.solve_step(node, incoming, noise))

    def value(self, node: NodeName, state: Mapping[str, Any], noise: NoiseChoice = None) -> float:
        """Value function at a state: for one noise, or its mean over all when left out.

        Raises
        ------
        InfeasibleState, ModelError
            As for `decide`.
        """
        compiled = self._compiled(node)
        incoming = compiled.states.flatten(state)
        if noise is not None or compiled.noise.n_realisations == 1:
            solution, size = self.solve_step(node, incoming, noise)
            return self.problem.sign * size * solution.value
        solved = [self.solve_step(node, incoming, w) for w in range(compiled.noise.n_realisations)]
        values = np.array([size * solution.value for solution, size in solved])
        return self.problem.sign * float(compiled.noise.probabilities @ values)

    def decide_before(
        self,
        stage: Stage | PresolvedStage,
        arcs: Arcs,
        state: Mapping[str, Any],
        *,
        risk: RiskMeasure | None = None,
        name: str = "decision",
    ) -> Decision:
        """Decision at a stage outside the graph that nodes of the graph follow.

        Parameters
        ----------
        stage : Stage or PresolvedStage
            With the problem's states and sense, and without noise before the decision.
        arcs : sequence of (node name, probability)
            What may follow; missing probability stops.
        state : mapping from state name to value
        risk : RiskMeasure, optional
            Over what follows; expectation by default.
        name : str
            For error messages.

        Raises
        ------
        InfeasibleState, ModelError
            As for `decide`.
        """
        with self._lock, one_blas_thread():
            ready = stage if isinstance(stage, PresolvedStage) else presolve_stage(stage, name)
            extra = self._subproblems.extra(ready, arcs, as_risk_measure(risk), name)
            incoming, size = self.problem.normalized(extra.compiled.states.flatten(state))
            solution = extra.solve(incoming, 0, self.checkpoint.tolerance)
        return self._decision(extra.compiled, self._feasible(solution, extra), size)

    def certificate(
        self, *, effort: int = 40, seed: int = 0, reference: float | None = None
    ) -> Certificate:
        """How far from the optimum this policy's problem can be at most.

        The more effort, the narrower the interval; any is true. Where the scenario tree has at
        most 500 times `effort` decisions (never above 200,000) the policy is evaluated exactly
        as well.

        Parameters
        ----------
        effort : int
            States in which the policy is asked at each node, in tens: its decisions there, and as
            many trial points of each stage where it was trained just now, are the points between
            which the inner bound interpolates. Time grows a little faster.
        seed : int
            Of the draws.
        reference : float, optional
            As in `train`.
        """
        with one_blas_thread():
            return certify(
                self,
                self.bound,
                self.checkpoint.risk,
                self.checkpoint.root_risk,
                effort=effort,
                rng=np.random.default_rng(seed),
                reference=reference,
                trial_states=self.trial_states,
                attained=self.attained_cost,
            )

    def simulate(
        self,
        n_paths: int,
        *,
        rng: Rng,
        record: Sequence[str] = (),
        sampling: SamplingScheme | None = None,
    ) -> pd.DataFrame:
        """Follow the policy along paths: a row per decision, indexed by path and stage.

        See `sddp.engine.policy.simulation.simulate` for parameters, columns and errors.

        Warns
        -----
        ConvergenceWarning
            The mean contradicts the bound by more than its error (`InSample`, risk neutral).
        """
        table = simulate(self, n_paths, rng=rng, record=record, sampling=sampling)
        measures = (*self.checkpoint.risk.values(), self.checkpoint.root_risk)
        if sampling in (None, InSample()) and all(isinstance(m, Expectation) for m in measures):
            warn_of_contradiction(self.problem, self.bound, table)
        return table

    def save(self, path: str | PathLike[str]) -> None:
        """Write the policy and its problem to a file, exactly; read it with `load_policy`.

        Raises
        ------
        PolicyFileError
            The place cannot be written to, or a class (of a risk measure, cut form or row
            generator) cannot be imported by another process or holds something that is no plain
            data.
        """
        save_policy(self.problem, self.checkpoint, path)

    def write_stage(
        self,
        node: NodeName,
        noise: NoiseChoice,
        path: str | PathLike[str],
        *,
        state: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the linear program of a node, with the cuts that its solution needs, to a file.

        The program is solved first, so that every row that holds the solution is there: the
        file's optimal value is that of `decide`. It is written as it was declared, in the user's
        names and sense; column ``cost_to_go`` and rows ``cut[i]`` are what training found, rows
        ``row[i]`` are feasibility cuts and generated rows.

        Parameters
        ----------
        node : hashable
        noise : int or mapping from parameter name to float
            As for `decide`; None where the node has no noise.
        path : str or PathLike
            Ends in ``.lp`` or ``.mps``.
        state : mapping from state name to value, optional
            Incoming state; by default the one at which training last solved the node, or the
            initial state.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        InfeasibleState, ModelError
            As for `decide`.
        OSError
            The file cannot be written.
        """
        compiled, target = self._compiled(node), checked_path(path)
        entries = noise_entries(compiled, noise, node)
        incoming = self._usual_state(node) if state is None else compiled.states.flatten(state)
        with self._lock:
            self._check_known(node)
            self._solve_by_highs(node, self.problem.normalized(incoming)[0], noise)
            model = self._subproblems[node].model(entries, incoming)
        model.write(target)
        return target

    def _usual_state(self, node: NodeName) -> Floats:
        reference = self.checkpoint.nodes[node].reference
        return self.problem.initial_state(node) if reference is None else reference

    def solve_step(
        self, name: NodeName, incoming: Floats, noise: NoiseChoice
    ) -> tuple[StageSolution, float]:
        """Solution at a state vector, in engine units for the state at size 1, and its size."""
        with self._lock:
            return self._solve_step(name, incoming, noise)

    def successors(self, name: NodeName | None, outgoing: Floats | None) -> Successors:
        """What may follow a decision, or come before the first one (None): for sampling schemes.

        `outgoing` is the state handed on, of size 1 where the problem is homogeneous.
        """
        if name is None or outgoing is None:
            return self._subproblems.value_functions.first_successors(
                self._first_values, self.checkpoint.root_risk
            )
        with self._lock:
            return self._subproblems.value_functions.successors(name, outgoing)

    def _solve_step(
        self, name: NodeName, incoming: Floats, noise: NoiseChoice
    ) -> tuple[StageSolution, float]:
        self._check_known(name)
        state, size = self.problem.normalized(incoming)
        if self._answers is not None and not isinstance(noise, Mapping):
            position = noise_position(self.problem.stages[name], noise, name)
            solution = self._answers.solve(name, state, position)
            if solution is not None:
                return solution, size
        return self._solve_by_highs(name, state, noise), size

    @cached_property
    def _answers(self) -> CompiledAnswers | None:
        """Compiled visits, where training had them; what they do not settle goes to HiGHS."""
        if self.checkpoint.stage_solver != "compiled":
            return None
        try:
            from sddp.engine.policy.compiled_answers import CompiledAnswers  # imports numba
        except ImportError as error:
            warnings.warn(
                f"the policy was trained by compiled visits, and numba cannot be imported "
                f"({error}): HiGHS answers, more slowly, with the same values and perhaps another "
                "of several best decisions; install numba",
                NumericalWarning,
                stacklevel=5,
            )
            return None
        return CompiledAnswers(self.problem, self.checkpoint)

    def _solve_by_highs(self, name: NodeName, state: Floats, noise: NoiseChoice) -> StageSolution:
        node = self._subproblems[name]
        with one_blas_thread():
            start, basis = self._start(name)
            if len(node.compiled.noise.positions["matrix"]):
                # The solver keeps traces of coefficients it once held: only a new LP has none.
                node = self._subproblems.rebuild(name, start)
            node.forget_after(len(start.rows), basis)
            if isinstance(noise, Mapping):
                entries = noise_values(node.compiled, noise, f"node {name!r}")
                solution = node.solve(state, entries, self.checkpoint.tolerance)
            else:
                position = noise_position(node.compiled, noise, name)
                solution = node.solve(state, position, self.checkpoint.tolerance)
        return self._feasible(solution, node)

    def _check_known(self, name: NodeName) -> None:
        """Reject a node after which training found no cuts."""
        outcomes = self._value_functions.outcomes(name)
        bounded = self.checkpoint.theta_lower.get(name, -np.inf) > -np.inf
        if outcomes is None or bounded or outcomes.ready:
            return
        child = next(c.name for c in outcomes.children if not c.value_function.ready)
        raise ModelError(
            f"node {name!r} cannot be asked: no path of positive probability leads to it, so "
            f"training found no cuts for node {child!r}, which follows it; give the arcs into "
            f"{name!r} a positive probability (a small one is enough) and train again"
        )

    def _feasible(self, solution: StageSolution | Infeasibility, node: Subproblem) -> StageSolution:
        if isinstance(solution, StageSolution):
            return solution
        size = " (at a state of size 1)" if self.problem.homogeneous else ""
        raise InfeasibleState(
            f"{node.name}: no decision from this state keeps all constraints, now and later; they "
            f"are missed by {solution.shortfall:g} in total{size}; {node.why_infeasible(solution)}"
        )

    def _decision(self, compiled: StageData, solution: StageSolution, size: float) -> Decision:
        sign = self.problem.sign
        handed_on = len(compiled.outgoing) > 0
        return Decision(
            variables=dict(
                zip(compiled.column_names, (size * solution.columns).tolist(), strict=True)
            ),
            outgoing=compiled.states.label(size * solution.outgoing) if handed_on else {},
            stage_objective=sign * size * (solution.value - solution.theta),
            cost_to_go=sign * size * solution.theta,
            slope=sign * solution.cut.slope,
        )

    def _compiled(self, name: NodeName) -> StageData:
        if name not in self.problem.stages:
            known = list(self.problem.stages)[:5]
            raise ModelError(f"node {name!r} is unknown; nodes are {known} ...")
        return self.problem.stages[name]

    def _root_value(self) -> float:
        weights = [probability for _, _, probability in self.problem.first_outcomes()]
        risk = self.checkpoint.root_risk
        seen = first_outcomes(risk, self.problem)
        return risk.evaluate(weights, self._first_values(), "min", seen)

    def _first_values(self) -> Floats:
        """Engine values of everything that may come before the first decision."""
        problem = self.problem
        first_nodes = [
            self.solve_step(name, problem.initial_state(name), noise)
            for name, noise, _ in problem.first_outcomes()
        ]
        return np.array([size * solution.value for solution, size in first_nodes])

    def _start(self, name: NodeName) -> tuple[NodeState, Basis | None]:
        """Rows and basis after a solve at the reference state: from there every answer starts."""
        if name not in self._starts:
            node, memory = self._subproblems[name], self.checkpoint.nodes[name]
            if memory.reference is not None:
                node.solve(memory.reference, 0, self.checkpoint.tolerance)
            basis = None if memory.reference is None else node.stage_lp.basis()
            rows = node.stage_lp.rows
            self._starts[name] = (replace(memory, rows=rows), basis)
        return self._starts[name]

    def _facts(self) -> dict[str, str]:
        pools = [pool for node in self.checkpoint.nodes.values() for pool in node.pools]
        return {
            **self.problem._facts(),
            "cuts": str(sum(len(pool.intercepts) for pool in pools)),
            "risk": repr(self.checkpoint.root_risk) if self._averse else "expectation",
        }

    @property
    def _averse(self) -> bool:
        measures = (self.checkpoint.root_risk, *self.checkpoint.risk.values())
        return any(not isinstance(measure, Expectation) for measure in measures)


def load_policy(path: str | PathLike[str], problem: Problem | None = None) -> Policy:
    """Read a policy saved by `Policy.save`; its decisions are the same bit for bit.

    A file opens by itself. It is plain data: nothing in it is run; the modules of the user's own
    classes (risk measure, cut form, row generator) are imported by the path that it names.

    Parameters
    ----------
    path : path
    problem : Problem, optional
        The problem that the policy should belong to: compared with the one in the file.

    Raises
    ------
    PolicyFileError
        Not a policy file, of another version, damaged, of another problem, or a class that it
        names cannot be imported.
    """
    found = load_file(path, problem)
    return Policy(found.problem, found.checkpoint)
