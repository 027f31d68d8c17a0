"""Forward and backward pass along one path.

Forward: follow a sampled path, deciding by the present cuts. Backward: along the same path from
its end, solve every node that may follow and add its cut. Homogeneous states are scaled to
size 1 before every solve, so that a cut found at one wealth serves all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sddp.arrays import Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.model.sampling import AdaptivePath, Step, check_step, draw_position, position_of
from sddp.engine.subproblem.feasibility import Infeasibility
from sddp.engine.subproblem.solutions import StageSolution
from sddp.engine.subproblem.subproblems import Subproblems
from sddp.engine.training.interrupt import Interrupt
from sddp.engine.value.cost_to_go import Child, CostToGo
from sddp.errors import ModelError, SolverError

# Rows are refined to this, relative, where a scaled state's value is compared; each of the two
# solves may miss by it, so ten times as much is a contradiction.
SCALING_TOLERANCE = 1e-7
SCALED_NODES = 3

# A decision that is taken again this often in one pass is not improving: the LP and the phase-one
# problem disagree within their tolerances.
MAXIMAL_STEPS_BACK = 1_000


@dataclass(frozen=True, eq=False)
class Visit:
    """One decision of a forward pass.

    Attributes
    ----------
    step : Step
    incoming : array
        State on arrival, scaled to size 1 where the problem is homogeneous.
    solution : StageSolution
        At that state.
    scale : float
        Size of the true state (1 where the problem is not homogeneous).
    following : Step or None
        With which the path goes on, and None where it ends.
    """

    step: Step
    incoming: Floats
    solution: StageSolution
    scale: float
    following: Step | None = None

    @property
    def node(self) -> NodeName:
        """Where the decision was taken."""
        return self.step.node

    @property
    def noise(self) -> int:
        """Position of the noise seen before it."""
        return position_of(self.step.noise)

    @property
    def stage_cost(self) -> float:
        """Cost of this decision alone, engine units."""
        return self.scale * (self.solution.value - self.solution.theta)


def forward_pass(
    subproblems: Subproblems,
    path: Sequence[Step],
    tolerance: float,
    interrupt: Interrupt,
    first: StageSolution | None = None,
    rest: AdaptivePath | None = None,
) -> list[Visit]:
    """Decide along a path; `first` is the first decision, where it is known already.

    `rest` chooses the steps after those of `path`, each after the decision before it. A node that
    turns out infeasible hands a feasibility cut to the decision before, which is then taken again
    (and may hand one further back); steps chosen once stay.

    Raises
    ------
    InfeasibleProblem
        The first decision is infeasible.
    SolverError
        Feasibility cuts do not end.
    """
    problem = subproblems.problem
    visits: list[Visit] = []
    steps, states = list(path), [problem.initial_state(path[0].node)]
    steps_back = 0
    while len(visits) < len(steps):
        interrupt.check()
        step = steps[len(visits)]
        state, scale = problem.normalized(states[-1])
        known, first = first, None
        solution = known or _decide(subproblems, step, state, tolerance)
        if isinstance(solution, Infeasibility):
            if not visits:
                raise subproblems.infeasible_problem(step.node, solution)
            subproblems.add_feasibility_cut(step.node, solution)
            visits.pop()
            states.pop()
            steps_back += 1
            _check_steps_back(subproblems, steps_back, step.node, solution)
            continue
        if rest is not None and len(steps) == len(visits) + 1:
            rest = _lengthen(subproblems, steps, solution, rest)
        following = steps[len(visits) + 1] if len(visits) + 1 < len(steps) else None
        visits.append(Visit(step, state, solution, scale, following))
        if following is not None:
            transition = problem.stages[following.node].transition
            arrived = transition.arrive(solution.outgoing, position_of(following.arrival))
            states.append(scale * arrived)
    return visits


def backward_pass(
    subproblems: Subproblems,
    visits: Sequence[Visit],
    tolerance: float,
    rng: np.random.Generator,
    trial_point: Callable[[Visit], Floats],
    interrupt: Interrupt,
) -> float:
    """Add cuts along a forward pass, from its end to its beginning.

    Returns the largest adjusted weight of outcomes of one of the decisions that no path has
    followed.
    """
    unvisited, value_functions = 0.0, subproblems.value_functions
    for visit in reversed(visits):
        interrupt.check()
        successors = value_functions.successors(visit.node, visit.solution.outgoing)
        rare = value_functions.coverage.rare_step(successors)
        if rare is not None:
            _follow_rare(subproblems, visit, rare, tolerance, rng)
        unvisited = max(unvisited, value_functions.coverage.unvisited_mass(successors))
        if subproblems[visit.node].cost_to_go is not None:
            refine(subproblems, visit, trial_point(visit), tolerance, rng)
    return unvisited


def refine(
    subproblems: Subproblems,
    visit: Visit,
    trial: Floats,
    tolerance: float,
    rng: np.random.Generator,
) -> None:
    """Add cuts at the nodes that follow a visit, made at the trial point.

    One trial state for each child: the path's own where it went, a drawn one elsewhere. Or every
    state that may come of the trial point, where the cut form asks for all of them.
    """
    cost_to_go = subproblems[visit.node].cost_to_go
    if cost_to_go is None:
        return
    if cost_to_go.every_realisation:
        _aggregate(subproblems, visit.node, cost_to_go, trial, tolerance)
        return
    problem, following = subproblems.problem, visit.following
    for child in cost_to_go.outcomes.children:
        if child.name in subproblems.compiled.exact:
            continue
        on_path = following is not None and child.name == following.node
        arrival = (
            position_of(following.arrival)
            if following is not None and on_path
            else draw_position(child.transition.cumulated, rng)
        )
        incoming, _ = problem.normalized(child.transition.arrive(trial, arrival))
        solutions = subproblems[child.name].solve_all(incoming, tolerance)
        subproblems.add_cuts(child.name, incoming, solutions)


def follow_first(
    subproblems: Subproblems,
    step: Step,
    solution: StageSolution,
    tolerance: float,
    rng: np.random.Generator,
) -> None:
    """Add cuts for a first decision that the path does not take."""
    problem = subproblems.problem
    incoming, scale = problem.normalized(problem.initial_state(step.node))
    subproblems.value_functions.note_beside(problem.graph.root, step)
    refine(subproblems, Visit(step, incoming, solution, scale), solution.outgoing, tolerance, rng)


def check_homogeneity(
    subproblems: Subproblems, visits: Sequence[Visit], rng: np.random.Generator
) -> None:
    """Compare ``V(c x)`` with ``c V(x)`` for a random ``c`` at a few visited nodes.

    Raises
    ------
    ModelError
        A stage declares ``homogeneous=True`` but is not.
    """
    for at in rng.permutation(len(visits))[:SCALED_NODES]:
        visit = visits[at]
        node = subproblems[visit.node]
        factor = float(np.exp(rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0)))
        noise = int(rng.integers(node.compiled.noise.n_realisations))
        base = node.solve(visit.incoming, noise, SCALING_TOLERANCE)
        scaled = node.solve(factor * visit.incoming, noise, SCALING_TOLERANCE)
        if isinstance(base, Infeasibility) or isinstance(scaled, Infeasibility):
            agree = type(base) is type(scaled)
        else:
            miss, size = abs(scaled.value - factor * base.value), abs(base.value)
            agree = miss <= 10.0 * SCALING_TOLERANCE * max(subproblems.problem.money, size)
        if not agree:
            raise ModelError(
                f"node {visit.node!r} declares homogeneous=True, but its value at a state scaled "
                f"by {factor:g} is not {factor:g} times its value; make every constraint a cone "
                "(no constants) or drop the declaration"
            )


def path_cost(visits: Sequence[Visit]) -> float:
    """Total cost of a forward pass, engine units."""
    return sum(visit.stage_cost for visit in visits)


def _lengthen(
    subproblems: Subproblems, steps: list[Step], solution: StageSolution, rest: AdaptivePath
) -> AdaptivePath | None:
    """Append the step that follows the last decision; None where the path ends."""
    before = steps[-1].node
    step = rest.next_step(subproblems.value_functions.successors(before, solution.outgoing))
    if step is None:
        return None
    check_step(subproblems.problem, before, step, len(steps))
    steps.append(step)
    return rest


def _follow_rare(
    subproblems: Subproblems, visit: Visit, step: Step, tolerance: float, rng: np.random.Generator
) -> None:
    """Decide after a rare outcome beside the path, and add cuts where that leads."""
    problem = subproblems.problem
    transition = problem.stages[step.node].transition
    arrived = transition.arrive(visit.solution.outgoing, position_of(step.arrival))
    incoming, scale = problem.normalized(arrived)
    subproblems.value_functions.note_beside(visit.node, step)
    solution = _decide(subproblems, step, incoming, tolerance)
    if isinstance(solution, Infeasibility):
        subproblems.add_feasibility_cut(step.node, solution)
        return
    refine(subproblems, Visit(step, incoming, solution, scale), solution.outgoing, tolerance, rng)
    if transition.n_realisations > 1 and step.node not in subproblems.compiled.exact:
        solutions = subproblems[step.node].solve_all(incoming, tolerance)
        subproblems.add_cuts(step.node, incoming, solutions)


def _decide(
    subproblems: Subproblems, step: Step, state: Floats, tolerance: float
) -> StageSolution | Infeasibility:
    node = subproblems[step.node]
    solution = node.solve(state, position_of(step.noise), tolerance)
    if isinstance(solution, StageSolution):
        node.remove_idle()
    return solution


def _check_steps_back(
    subproblems: Subproblems, steps_back: int, name: NodeName, found: Infeasibility
) -> None:
    if steps_back > MAXIMAL_STEPS_BACK:
        raise SolverError(
            f"node {name!r} stays infeasible after {steps_back} feasibility cuts in one pass "
            f"(it is missed by {found.shortfall:g}); the problem is at the edge of feasibility: "
            f"relax a limit slightly or rescale it; {subproblems[name].why_infeasible(found)}"
        )


def _aggregate(
    subproblems: Subproblems,
    name: NodeName,
    cost_to_go: CostToGo,
    outgoing: Floats,
    tolerance: float,
) -> None:
    """Solve every outcome at its own incoming state, and add a cut of the cost-to-go."""
    children = cost_to_go.outcomes.children
    tables = [_outcome_cuts(subproblems, child, outgoing, tolerance) for child in children]
    known = [table for table in tables if table is not None]
    if len(known) < len(tables):
        return  # an infeasible outcome: its feasibility cut comes first
    values = np.concatenate([table[0] for table in known])
    cut = cost_to_go.aggregate(values, np.vstack([table[1] for table in known]), outgoing)
    if cut is not None:
        cut = cut._replace(intercept=0.0) if subproblems.problem.homogeneous else cut
        subproblems.value_functions.add_cost_to_go_cut(name, cut, outgoing)


def _outcome_cuts(
    subproblems: Subproblems, child: Child, outgoing: Floats, tolerance: float
) -> tuple[Floats, Floats] | None:
    """Value and pulled-back slope of each outcome ``(noise, realisation)`` of a child."""
    problem = subproblems.problem
    shape = (len(child.value_function.pools), child.transition.n_realisations)
    values = np.zeros(shape)
    slopes = np.zeros((*shape, len(outgoing)))
    for e in range(child.transition.n_realisations):
        incoming, size = problem.normalized(child.transition.arrive(outgoing, e))
        solutions = subproblems[child.name].solve_all(incoming, tolerance)
        subproblems.add_cuts(child.name, incoming, solutions)
        if solutions.infeasible:
            return None
        own_values = size * solutions.values
        pulled = np.array([child.transition.pull_back(slope)[e] for slope in solutions.slopes])
        averaged = shape[0] == 1 and len(solutions) > 1
        p = problem.stages[child.name].noise.probabilities
        values[:, e] = p @ own_values if averaged else own_values
        slopes[:, e] = p @ pulled if averaged else pulled
    return values.ravel(), slopes.reshape(-1, len(outgoing))
