"""Sampling schemes: which paths of nodes and noise a forward pass or a simulation follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Integral
from typing import Protocol

import numpy as np

from sddp.arrays import Floats, checked_probabilities
from sddp.engine.graph import Node, NodeName
from sddp.engine.problem import Problem
from sddp.engine.transition import LinearTransition
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


class SamplingScheme(Protocol):
    """Chooses the paths."""

    def sample(self, problem: Problem, number: int, rng: np.random.Generator) -> list[Step]:
        """The path of a given number (from 0), from the first decision to the last."""
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
        steps: list[Step] = []
        for name in islice(walk(problem, rng), self.maximal_steps):
            stage = problem.stages[name]
            noise = draw_index(stage.noise.probabilities, rng)
            arrival = draw_position(stage.transition.cumulated, rng) if steps else 0
            steps.append(Step(name, noise, arrival))
        return steps


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
        names = islice(walk(problem, rng), self.maximal_steps)
        return [Step(name, *self.draw(problem.graph.node(name), rng)) for name in names]


def check_path(problem: Problem, path: Sequence[Step]) -> None:
    """Refuse a path on which training cannot learn: it does so at nodes and noise of the problem.

    Raises
    ------
    ModelError
        The path is empty, or leaves the problem.
    """
    if not path:
        raise ModelError("the sampling scheme returned an empty path; give at least one decision")
    for number, step in enumerate(path):
        stage = problem.stages.get(step.node)
        if stage is None:
            raise ModelError(f"step {number} of a path is at node {step.node!r}, which is unknown")
        sizes = {"noise": stage.noise.n_realisations, "arrival": stage.transition.n_realisations}
        for what, size in sizes.items():
            position = position_of(getattr(step, what))
            if not 0 <= position < size:
                raise ModelError(
                    f"step {number} of a path, node {step.node!r}: {what} = {position} is outside "
                    f"0..{size - 1}"
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


def walk(problem: Problem, rng: np.random.Generator) -> Iterator[NodeName]:
    """Nodes of a path, drawn one by one."""
    name = _draw_child(problem, problem.graph.root, rng)
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
