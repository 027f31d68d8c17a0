"""Forward and backward pass along one path.

Forward: follow a sampled path, deciding by the present cuts. Backward: along the same path from
its end, solve every node that may follow and add its cut. Homogeneous states are scaled to
size 1 before every solve, so that a cut found at one wealth serves all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sddp.arrays import Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.model.sampling import AdaptivePath, Step, check_step, draw_position, position_of
from sddp.engine.subproblem.feasibility import FeasibilityCut
from sddp.engine.subproblem.network import Network
from sddp.engine.subproblem.solutions import StageSolution
from sddp.engine.training.interrupt import Interrupt
from sddp.engine.value.cost_to_go import Child, Outcomes, Support
from sddp.errors import ModelError, SolverError

# Rows are refined to this, relative, where a scaled state's value is compared; each of the two
# solves may miss by it, so ten times as much is a contradiction.
SCALING_TOLERANCE = 1e-7
SCALED_NODES = 3

# A decision that is handed back this often in one pass is not improving: the LP and the phase-one
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
    network: Network,
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
    visits: list[Visit] = []
    steps, states = list(path), [network.problem.initial_state(path[0].node)]
    steps_back = 0
    while len(visits) < len(steps):
        interrupt.check()
        step = steps[len(visits)]
        state, scale = network.normalised(states[-1])
        known, first = first, None
        solution = known or _decide(network, step, state, tolerance)
        if isinstance(solution, FeasibilityCut):
            _step_back(network, step.node, solution, visits, states)
            steps_back += 1
            _check_steps_back(network, steps_back, step.node, solution)
            continue
        if rest is not None and len(steps) == len(visits) + 1:
            rest = _lengthen(network, steps, solution, rest)
        following = steps[len(visits) + 1] if len(visits) + 1 < len(steps) else None
        visits.append(Visit(step, state, solution, scale, following))
        states.append(_arrive(network, visits[-1]))
    return visits


def _lengthen(
    network: Network, steps: list[Step], solution: StageSolution, rest: AdaptivePath
) -> AdaptivePath | None:
    """Append the step that follows the last decision; None where the path ends."""
    before = steps[-1].node
    step = rest.next_step(network.successors(before, solution.outgoing))
    if step is None:
        return None
    check_step(network.problem, before, step, len(steps))
    steps.append(step)
    return rest


def backward_pass(
    network: Network,
    visits: Sequence[Visit],
    tolerance: float,
    rng: np.random.Generator,
    averaging: float,
    interrupt: Interrupt,
) -> float:
    """Add cuts along a forward pass, from its end to its beginning.

    `averaging`, from 0 to 1, is the share of earlier decisions in the trial points. Returns the
    largest adjusted weight of outcomes of one of the decisions that no path has followed.
    """
    unvisited = 0.0
    for visit in reversed(visits):
        interrupt.check()
        successors = network.successors(visit.node, visit.solution.outgoing)
        rare = network.coverage.rare_step(successors)
        if rare is not None:
            _follow_rare(network, visit, rare, tolerance, rng)
        unvisited = max(unvisited, network.coverage.unvisited_mass(successors))
        study(network, visit, tolerance, rng, averaging)
    return unvisited


def follow_first(
    network: Network,
    step: Step,
    solution: StageSolution,
    tolerance: float,
    rng: np.random.Generator,
) -> None:
    """Add cuts for a first decision that the path does not take."""
    incoming, scale = network.normalised(network.problem.initial_state(step.node))
    network.note_trip(network.problem.graph.root, step)
    study(network, Visit(step, incoming, solution, scale), tolerance, rng, 0.0)


def _follow_rare(
    network: Network, visit: Visit, step: Step, tolerance: float, rng: np.random.Generator
) -> None:
    """Decide after a rare outcome beside the path, and add cuts where that leads."""
    transition = network.problem.stages[step.node].transition
    arrived = transition.arrive(visit.solution.outgoing, position_of(step.arrival))
    incoming, scale = network.normalised(arrived)
    network.note_trip(visit.node, step)
    solution = _decide(network, step, incoming, tolerance)
    if isinstance(solution, FeasibilityCut):
        network.refuse(step.node, solution)
        return
    study(network, Visit(step, incoming, solution, scale), tolerance, rng, 0.0)
    if transition.n_realisations > 1 and step.node not in network.exact:
        network.learn(step.node, incoming, network.solve_noises(step.node, incoming, tolerance))


def check_homogeneity(network: Network, visits: Sequence[Visit], rng: np.random.Generator) -> None:
    """Compare ``V(c x)`` with ``c V(x)`` for a random ``c`` at a few visited nodes.

    Raises
    ------
    ModelError
        A stage declares ``homogeneous=True`` but is not.
    """
    for at in rng.permutation(len(visits))[:SCALED_NODES]:
        visit = visits[at]
        node = network.nodes[visit.node]
        factor = float(np.exp(rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0)))
        noise = int(rng.integers(node.compiled.noise.n_realisations))
        base = node.solve(visit.incoming, noise, SCALING_TOLERANCE)
        scaled = node.solve(factor * visit.incoming, noise, SCALING_TOLERANCE)
        if isinstance(base, FeasibilityCut) or isinstance(scaled, FeasibilityCut):
            agree = type(base) is type(scaled)
        else:
            miss = abs(scaled.value - factor * base.value)
            agree = miss <= 10.0 * SCALING_TOLERANCE * max(network.problem.money, abs(base.value))
        if not agree:
            raise ModelError(
                f"node {visit.node!r} declares homogeneous=True, but its value at a state scaled "
                f"by {factor:g} is not {factor:g} times its value; make every constraint a cone "
                "(no constants) or drop the declaration"
            )


def path_cost(visits: Sequence[Visit]) -> float:
    """Total cost of a forward pass, engine units."""
    return sum(visit.stage_cost for visit in visits)


def _decide(
    network: Network, step: Step, state: Floats, tolerance: float
) -> StageSolution | FeasibilityCut:
    node = network.nodes[step.node]
    solution = node.solve(state, position_of(step.noise), tolerance)
    if isinstance(solution, StageSolution):
        node.rest()
    return solution


def _arrive(network: Network, visit: Visit) -> Floats:
    following, outgoing = visit.following, visit.solution.outgoing
    if following is None:
        return outgoing
    transition = network.problem.stages[following.node].transition
    return visit.scale * transition.arrive(outgoing, position_of(following.arrival))


def _check_steps_back(
    network: Network, steps_back: int, name: NodeName, cut: FeasibilityCut
) -> None:
    if steps_back > MAXIMAL_STEPS_BACK:
        raise SolverError(
            f"node {name!r} stays infeasible after {steps_back} feasibility cuts in one pass "
            f"(it is missed by {cut.shortfall:g}); the problem is at the edge of feasibility: "
            f"relax a limit slightly or rescale it; {network.nodes[name].why_infeasible(cut)}"
        )


def _step_back(
    network: Network,
    name: NodeName,
    cut: FeasibilityCut,
    visits: list[Visit],
    states: list[Floats],
) -> None:
    if not visits:
        raise network.infeasible_problem(name, cut)
    network.refuse(name, cut)
    visits.pop()
    states.pop()


def study(
    network: Network,
    visit: Visit,
    tolerance: float,
    rng: np.random.Generator,
    averaging: float,
) -> None:
    """Learn at the nodes that follow a visit."""
    cost_to_go = network.nodes[visit.node].cost_to_go
    if cost_to_go is None:
        return
    trial = _trial_point(network, visit, averaging)
    if cost_to_go.solves_every_realisation:
        _study_average(network, visit, cost_to_go.outcomes, trial, tolerance)
    else:
        _study_children(network, visit, cost_to_go.outcomes, trial, tolerance, rng)


def _trial_point(network: Network, visit: Visit, averaging: float) -> Floats:
    """The outgoing state at which the cost-to-go is studied.

    Decisions by few cuts jump from one extreme to the next; a mean of the last ones is nearer to
    the optimum, and a cut made there says more.
    """
    if averaging == 0.0:
        return visit.solution.outgoing
    decision, size = network.normalised(visit.solution.outgoing)
    before = network.averages_of_decisions.get(visit.node, decision)
    average = network.averages_of_decisions[visit.node] = (decision + before) / 2.0
    trial: Floats = size * ((1.0 - averaging) * decision + averaging * average)
    return trial


def _study_children(
    network: Network,
    visit: Visit,
    outcomes: Outcomes,
    trial: Floats,
    tolerance: float,
    rng: np.random.Generator,
) -> None:
    """One trial state per child: the path's own where it went, a drawn one elsewhere."""
    for child in outcomes.children:
        if child.name in network.exact:
            continue
        following = visit.following
        arrival = (
            position_of(following.arrival)
            if following is not None and child.name == following.node
            else draw_position(child.transition.cumulated, rng)
        )
        state = child.transition.arrive(trial, arrival)
        incoming, _ = network.normalised(state)
        network.learn(child.name, incoming, network.solve_noises(child.name, incoming, tolerance))


def _study_average(
    network: Network, visit: Visit, outcomes: Outcomes, outgoing: Floats, tolerance: float
) -> None:
    """Solve every outcome at its own incoming state and average under the risk measure."""
    tables = [_outcome_cuts(network, child, outgoing, tolerance) for child in outcomes.children]
    known = [table for table in tables if table is not None]
    if len(known) < len(tables):
        return  # an infeasible outcome: its feasibility cut comes first
    values = [table[0] for table in known]
    if outcomes.stop_probability > 0.0:
        values.append(np.zeros(1))
    q, offset = outcomes.adjusted(np.concatenate(values))
    slopes = np.vstack([table[1] for table in known])
    slope = q[: len(slopes)] @ slopes
    value = float(q @ np.concatenate(values)) + offset
    constant = 0.0 if network.problem.homogeneous else value - float(slope @ outgoing)
    network.learn_average(visit.node, Support(slope, constant), outgoing)


def _outcome_cuts(
    network: Network, child: Child, outgoing: Floats, tolerance: float
) -> tuple[Floats, Floats] | None:
    """Value and pulled-back slope of each outcome ``(noise, realisation)`` of a child."""
    shape = (len(child.value_function.pools), child.transition.n_realisations)
    values = np.zeros(shape)
    slopes = np.zeros((*shape, len(outgoing)))
    for e in range(child.transition.n_realisations):
        incoming, size = network.normalised(child.transition.arrive(outgoing, e))
        solutions = network.solve_noises(child.name, incoming, tolerance)
        network.learn(child.name, incoming, solutions)
        if solutions.refused:
            return None
        own_values = size * solutions.values
        pulled = np.array([child.transition.pull_back(slope)[e] for slope in solutions.slopes])
        averaged = shape[0] == 1 and len(solutions) > 1
        p = network.problem.stages[child.name].noise.probabilities
        values[:, e] = p @ own_values if averaged else own_values
        slopes[:, e] = p @ pulled if averaged else pulled
    return values.ravel(), slopes.reshape(-1, len(outgoing))
