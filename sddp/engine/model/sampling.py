"""Sampling schemes: which paths of nodes and noise a forward pass or a simulation follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from numbers import Integral
from typing import Protocol

import numpy as np

from sddp.arrays import Floats, checked_probabilities
from sddp.engine.model.graph import Node, NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.stage.transition import LinearTransition
from sddp.errors import ModelError

# A discounted cycle stops by itself; this many decisions means the discount was forgotten.
MAXIMAL_STEPS = 100_000


@dataclass(frozen=True, eq=False)
class Step:
    """One decision of a path.

    Attributes
    ----------
    node : hashable
    noise : int or mapping from parameter name to float
        Position in the node's support, or values of the parameters.
    arrival : int or LinearTransition
        Position among the realisations of the node's transition, or a transition with one
        realisation. Ignored at the first step, which starts from the initial state.
    """

    node: NodeName
    noise: int | Mapping[str, float] = 0
    arrival: int | LinearTransition = 0


@dataclass(frozen=True, eq=False)
class Branch:
    """A node that may follow a decision, with the outcomes ``(noise, arrival)`` seen there.

    `n_noises` is 1 where the value function is the mean over the noise of the node: its values
    do not tell one noise from another, and no measure but the expectation looks at them.
    """

    node: NodeName
    n_noises: int
    n_arrivals: int


class Successors:
    """Everything that may follow a decision, as a sampling scheme sees it.

    An outcome is a triple (node, noise, arrival); outcomes are numbered node by node, then noise
    by noise. The end of the process is no outcome: its probability is `stop_probability`.

    Parameters
    ----------
    problem : Problem
    node : hashable or None
        Where the decision was taken; None before the first decision.
    outgoing : array or None
        State handed on, of size 1 where the problem is homogeneous; None before the first.
    branches : sequence of Branch
    probabilities : array, shape (n_outcomes,)
        They sum to 1 less `stop_probability`.
    stop_probability : float
    evaluate : callable returning (values, adjusted probabilities)
        Of all outcomes, in engine units (costs); called once, when first needed.
    visits : mapping from node name to int
        How often paths of this training have visited each node; nodes left out have none.
    """

    def __init__(
        self,
        problem: Problem,
        node: NodeName | None,
        outgoing: Floats | None,
        branches: Sequence[Branch],
        probabilities: Floats,
        stop_probability: float,
        evaluate: Callable[[], tuple[Floats, Floats]],
        visits: Mapping[NodeName, int],
    ) -> None:
        self.problem, self.node, self.outgoing = problem, node, outgoing
        self.branches, self.probabilities = tuple(branches), probabilities
        self.stop_probability, self._evaluate, self.visits = stop_probability, evaluate, visits

    @property
    def values(self) -> Floats:
        """What each outcome is worth by the present cuts, user's units, shape (n_outcomes,).

        NaN as long as some outcome has no cut.
        """
        values: Floats = self.problem.sign * self._evaluated[0]
        return values

    @property
    def adjusted(self) -> Floats:
        """Probabilities as the node's risk measure adjusts them, shape (n_outcomes,).

        The nominal ones as long as some outcome has no cut.
        """
        return self._evaluated[1]

    @cached_property
    def _evaluated(self) -> tuple[Floats, Floats]:
        return self._evaluate()

    def joint(self, weights: Floats) -> list[Floats]:
        """Weights of all (noise, arrival) pairs of each branch's node, one table a branch."""
        tables, start = [], 0
        for branch in self.branches:
            size = branch.n_noises * branch.n_arrivals
            table = weights[start : start + size].reshape(branch.n_noises, branch.n_arrivals)
            noise = self.problem.stages[branch.node].noise.probabilities
            tables.append(table if len(table) == len(noise) else np.outer(noise, table))
            start += size
        return tables

    def outcomes(self) -> list[Step]:
        """All outcomes, every noise of an averaged value function by itself."""
        tables = zip(self.branches, self.joint(self.probabilities), strict=True)
        return [
            Step(branch.node, w, e) for branch, table in tables for w, e in np.ndindex(table.shape)
        ]

    def step(self, outcome: int, rng: np.random.Generator) -> Step:
        """The step to an outcome; a noise that outcomes do not tell apart is drawn."""
        for branch in self.branches:
            size = branch.n_noises * branch.n_arrivals
            if outcome < size:
                noise, arrival = divmod(outcome, branch.n_arrivals)
                if branch.n_noises == 1:
                    stage = self.problem.stages[branch.node]
                    noise = draw_index(stage.noise.probabilities, rng)
                return Step(branch.node, noise, arrival)
            outcome -= size
        raise IndexError(f"outcome {outcome} is outside the {len(self.probabilities)} outcomes")

    def draw(self, weights: Floats, rng: np.random.Generator) -> Step | None:
        """A step drawn with given weights of the outcomes; None where the process stops.

        It stops with its own probability, whatever the weights: by adjusted ones a path through
        a cycle might never end, or end at once.
        """
        if not self.branches:
            return None
        if self.stop_probability > 0.0 and rng.random() < self.stop_probability:
            return None
        if not weights.any():
            weights = self.probabilities
        return self.step(draw_index(weights, rng), rng)


class AdaptivePath(Protocol):
    """A path that is chosen decision by decision.

    It is sent to the process that follows it, so it must be possible to pickle it, and it draws
    from a generator of its own (``rng.spawn(1)[0]``): then numbers are the same for every
    ``n_jobs``. One that chooses all steps at the first one may have a method ``known_steps()``
    that returns those after it, or None.
    """

    def next_step(self, successors: Successors) -> Step | None:
        """The next step, after a decision (or before the first one); None ends the path."""
        ...


def begin_path(
    sampled: Sequence[Step] | AdaptivePath, root: Successors
) -> tuple[Sequence[Step], AdaptivePath | None]:
    """The steps of a sampled path that are known beforehand, and what chooses those after them."""
    if isinstance(sampled, Sequence):
        return sampled, None
    step = sampled.next_step(root)
    if step is None:
        return [], None
    known = getattr(sampled, "known_steps", None)
    steps = None if known is None else known()
    return ([step], sampled) if steps is None else ([step, *steps], None)


class SamplingScheme(Protocol):
    """Chooses the paths."""

    def sample(
        self, problem: Problem, number: int, rng: np.random.Generator
    ) -> Sequence[Step] | AdaptivePath:
        """The path of a given number (from 0).

        All its steps, from the first decision to the last; or an `AdaptivePath`, where a step
        depends on the decision before it.
        """
        ...


@dataclass(frozen=True)
class InSample:
    """Nodes, noise and transitions with the probabilities of the problem.

    Parameters
    ----------
    maximal_steps : int
        Paths through a cycle are cut off here.
    """

    maximal_steps: int = MAXIMAL_STEPS

    def sample(self, problem: Problem, number: int, rng: np.random.Generator) -> list[Step]:
        """See `SamplingScheme`."""
        return draw_noise(problem, islice(draw_nodes(problem, rng), self.maximal_steps), rng)


@dataclass(frozen=True, eq=False)
class Historical:
    """Given paths, one after the other and then again (or drawn with `probabilities`).

    Parameters
    ----------
    paths : sequence of sequences of Step
    probabilities : sequence of float, optional
        Draw paths instead of taking them in order.
    """

    paths: Sequence[Sequence[Step]]
    probabilities: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not self.paths:
            raise ModelError("paths is empty; give at least one historical path")
        if self.probabilities is not None:
            checked_probabilities(self.probabilities, len(self.paths), "Historical")

    def sample(self, problem: Problem, number: int, rng: np.random.Generator) -> list[Step]:
        """See `SamplingScheme`."""
        if self.probabilities is None:
            return list(self.paths[number % len(self.paths)])
        return list(self.paths[draw_index(np.asarray(self.probabilities, dtype=float), rng)])


@dataclass(frozen=True, eq=False)
class OutOfSample:
    """Nodes by the graph, noise and transitions by the user's own law.

    Parameters
    ----------
    draw : callable from (Node, Generator) to (noise, arrival)
        Both as in `Step`; the arrival of the first step is ignored.
    """

    draw: Callable[
        [Node, np.random.Generator],
        tuple[int | Mapping[str, float], int | LinearTransition],
    ]
    maximal_steps: int = MAXIMAL_STEPS

    def sample(self, problem: Problem, number: int, rng: np.random.Generator) -> list[Step]:
        """See `SamplingScheme`."""
        names = islice(draw_nodes(problem, rng), self.maximal_steps)
        return [Step(name, *self.draw(problem.graph.node(name), rng)) for name in names]


def check_path(problem: Problem, path: Sequence[Step]) -> None:
    """Reject a path on which training cannot add cuts: it does so at outcomes of the problem.

    Raises
    ------
    ModelError
        The path is empty, leaves the problem, or takes a step that no arc allows.
    """
    if not path:
        raise ModelError("the sampling scheme returned an empty path; give at least one decision")
    before = problem.graph.root
    for number, step in enumerate(path):
        check_step(problem, before, step, number)
        before = step.node


def check_step(problem: Problem, before: NodeName, step: Step, number: int) -> None:
    """Reject a step, from the node (or root) `before`, that is no outcome of the problem.

    Raises
    ------
    ModelError
        See `check_path`.
    """
    stage = problem.stages.get(step.node)
    where = f"step {number} of a path"
    if stage is None:
        raise ModelError(f"{where} is at node {step.node!r}, which is unknown")
    if not problem.graph.arcs.get((before, step.node), 0.0) > 0.0:
        raise ModelError(
            f"{where} leads from {before!r} to {step.node!r}, but the graph has no arc of positive "
            "probability between them; give paths of the graph, or add the arc"
        )
    sizes = {"noise": stage.noise.n_realisations, "arrival": stage.transition.n_realisations}
    for what, size in sizes.items():
        position = position_of(getattr(step, what))
        if not 0 <= position < size:
            raise ModelError(
                f"{where}, node {step.node!r}: {what} = {position} is outside 0..{size - 1}"
            )


def position_of(value: object) -> int:
    """A position in a support.

    Raises
    ------
    ModelError
        It is something else: training takes positions only, not values.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    raise ModelError(f"a path to train on has {value!r} where a position in a support is needed")


def draw_index(probabilities: Floats, rng: np.random.Generator) -> int:
    """Position drawn with given probabilities; no number is drawn where there is no choice."""
    return draw_position(np.cumsum(probabilities), rng)


def draw_position(cumulated: Floats, rng: np.random.Generator) -> int:
    """The same, of cumulated probabilities."""
    if len(cumulated) == 1:
        return 0
    at = int(cumulated.searchsorted(rng.random() * cumulated[-1], side="right"))
    return min(at, len(cumulated) - 1)


def draw_noise(problem: Problem, names: Iterable[NodeName], rng: np.random.Generator) -> list[Step]:
    """A path along given nodes, noise and transitions drawn with their probabilities."""
    steps: list[Step] = []
    for name in names:
        stage = problem.stages[name]
        noise = draw_index(stage.noise.probabilities, rng)
        arrival = draw_position(stage.transition.cumulated, rng) if steps else 0
        steps.append(Step(name, noise, arrival))
    return steps


def draw_nodes(
    problem: Problem, rng: np.random.Generator, start: NodeName | None = None
) -> Iterator[NodeName]:
    """Nodes of a path after `start` (the root by default), drawn one by one."""
    name = _draw_child(problem, problem.graph.root if start is None else start, rng)
    while name is not None:
        yield name
        name = _draw_child(problem, name, rng)


def _draw_child(problem: Problem, name: NodeName, rng: np.random.Generator) -> NodeName | None:
    """Next node, or None where the process stops."""
    arcs = problem.graph.children(name)
    if not arcs:
        return None
    stop = problem.graph.stop_probability(name)
    if len(arcs) == 1 and stop == 0.0:
        return arcs[0][0]
    weights = np.array([p for _, p in arcs] + [stop])
    at = draw_index(weights, rng)
    return arcs[at][0] if at < len(arcs) else None
