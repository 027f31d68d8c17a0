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
from sddp.engine.cost_to_go import Child, Outcomes, Support
from sddp.engine.graph import NodeName
from sddp.engine.interrupt import Interrupt
from sddp.engine.network import Network
from sddp.engine.phase_one import FeasibilityCut
from sddp.engine.sampling import Step, draw_position, position_of
from sddp.engine.solutions import StageSolution
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
    node : hashable
    incoming : array
        State on arrival, scaled to size 1 where the problem is homogeneous.
    noise : int
    solution : StageSolution
        At that state.
    scale : float
        Size of the true state (1 where the problem is not homogeneous).
    next_arrival : int or None
        Realisation with which the path goes on, and None where it ends.
    next_node : hashable or None
    """

    node: NodeName
    incoming: Floats
    noise: int
    solution: StageSolution
    scale: float
    next_node: NodeName | None
    next_arrival: int

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
) -> list[Visit]:
    """Decide along a path; `first` is the first decision, where it is known already.

    A node that turns out infeasible hands a feasibility cut to the decision before, which is
    then taken again (and may hand one further back).

    Raises
    ------
    InfeasibleProblem
        The first decision is infeasible.
    SolverError
        Feasibility cuts do not end.
    """
    visits: list[Visit] = []
    states = [network.problem.initial_state(path[0].node)]
    steps_back = 0
    while len(visits) < len(path):
        interrupt.check()
        step = path[len(visits)]
        state, scale = network.normalised(states[-1])
        known, first = first, None
        solution = known or _decide(network, step, state, tolerance)
        if isinstance(solution, FeasibilityCut):
            _step_back(network, step.node, solution, visits, states)
            steps_back += 1
            _check_steps_back(steps_back, step.node, solution)
            continue
        visits.append(_visit(path, len(visits), state, solution, scale))
        states.append(_arrive(network, visits[-1], solution))
    return visits


def backward_pass(
    network: Network,
    visits: Sequence[Visit],
    tolerance: float,
    rng: np.random.Generator,
    averaging: float,
    interrupt: Interrupt,
) -> None:
    """Add cuts along a forward pass, from its end to its beginning.

    `averaging`, from 0 to 1, is the share of earlier decisions in the trial points.
    """
    for visit in reversed(visits):
        interrupt.check()
        study(network, visit, tolerance, rng, averaging)


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
            agree = miss <= 10.0 * SCALING_TOLERANCE * max(1.0, abs(base.value))
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


def _visit(
    path: Sequence[Step], at: int, incoming: Floats, solution: StageSolution, scale: float
) -> Visit:
    node, noise = path[at].node, position_of(path[at].noise)
    if at + 1 == len(path):
        return Visit(node, incoming, noise, solution, scale, None, 0)
    following = path[at + 1]
    arrival = position_of(following.arrival)
    return Visit(node, incoming, noise, solution, scale, following.node, arrival)


def _arrive(network: Network, visit: Visit, solution: StageSolution) -> Floats:
    if visit.next_node is None:
        return solution.outgoing
    transition = network.problem.stages[visit.next_node].transition
    return visit.scale * transition.arrive(solution.outgoing, visit.next_arrival)


def _check_steps_back(steps_back: int, name: NodeName, cut: FeasibilityCut) -> None:
    if steps_back > MAXIMAL_STEPS_BACK:
        raise SolverError(
            f"node {name!r} stays infeasible after {steps_back} feasibility cuts in one pass "
            f"(it is missed by {cut.shortfall:g}); the problem is at the edge of feasibility: "
            "relax a limit slightly or rescale it"
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
        arrival = (
            visit.next_arrival
            if child.name == visit.next_node
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
