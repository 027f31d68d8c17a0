"""A multistage problem: a graph and a builder that states one decision at each node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import cached_property
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sddp.arrays import Floats, read_only
from sddp.display.shown import Shown, listed
from sddp.engine.model.graph import Graph, Node, NodeName
from sddp.engine.model.noise_choice import NoiseChoice, noise_entries
from sddp.engine.model.report import ProblemReport, problem_report
from sddp.engine.stage.declaration import InitialCut, Stage
from sddp.engine.stage.file import checked_path, stage_model
from sddp.engine.stage.scaling import cone_units, stage_scaling, state_sizes
from sddp.engine.stage.stage_data import ReadStage, StageData
from sddp.engine.stage.translation import read_stage
from sddp.errors import ModelError
from sddp.lp import Scaling

# The states of a homogeneous problem are of size 1 and its LPs are solved in units of this, so
# that HiGHS's absolute tolerances are 1e-12 of the state: daily returns need it.
HOMOGENEOUS_ACCURACY = 2.0**-10

# A given bound on the cost-to-go of a homogeneous stage is a number, which no cone holds: where it
# is active a cut misses the origin. It only keeps the first pass bounded, so it is taken this much
# looser.
LOOSENED = 1e3


@dataclass(frozen=True, eq=False, repr=False)
class Problem(Shown):
    """A linear multistage stochastic program, as it is declared.

    A problem is closed: its stages are read into numbers on construction, and it keeps neither the
    builder nor its models. So it can be pickled, and what they become afterwards changes nothing.
    The builder may change one model from node to node.

    Parameters
    ----------
    graph : Graph
    build : callable from Node to Stage
        Called once for each node, and not kept. Nodes whose stages have the same content (initial
        cuts aside) share their data. It may return a `ReadStage` in the place of a `Stage`.
    cost_to_go_bound : float, or mapping from node name to float, optional
        A valid bound on the cost-to-go after a node's decision: lower where the problem
        minimises, upper where it maximises. Computed where that is possible when left out. In a
        homogeneous problem it bounds the cost-to-go from the initial state and scales with it: a
        thousand times the bound is used, until cuts bound the cost-to-go.

    Raises
    ------
    ModelError
        A stage is not linear, senses differ, states differ between nodes, or a first node has
        no initial state. The message names node and number.
    """

    graph: Graph
    build: InitVar[Callable[[Node], Stage | ReadStage]]
    cost_to_go_bound: float | Mapping[NodeName, float] | None = None
    stages: Mapping[NodeName, StageData] = field(init=False, repr=False)
    initial_cuts: Mapping[NodeName, Sequence[InitialCut]] = field(init=False, repr=False)

    def __post_init__(self, build: Callable[[Node], Stage | ReadStage]) -> None:
        shared: dict[str, StageData] = {}  # by content
        stages: dict[NodeName, StageData] = {}
        initial_cuts: dict[NodeName, Sequence[InitialCut]] = {}
        for name in self.graph.nodes:
            stage, where = build(self.graph.node(name)), f"node {name!r}"
            data = stage.data if isinstance(stage, ReadStage) else read_stage(stage, where)
            stages[name] = shared.setdefault(data.fingerprint, data)
            n = len(data.incoming)
            initial_cuts[name] = [
                _closed(cut, i, n, where) for i, cut in enumerate(stage.initial_cuts)
            ]
        object.__setattr__(self, "stages", stages)
        object.__setattr__(self, "initial_cuts", initial_cuts)
        if isinstance(self.cost_to_go_bound, Mapping):
            object.__setattr__(self, "cost_to_go_bound", dict(self.cost_to_go_bound))
        self._check_agreement()
        self._check_handing_on()
        self._check_bound()
        for built, name in {built: name for name, built in reversed(stages.items())}.items():
            if built.homogeneous:
                check_cone(built, f"node {name!r}")

    @property
    def sign(self) -> float:
        """-1 where the user maximises; engine values are this times the user's."""
        return self._first.sign

    @property
    def n_components(self) -> int:
        """Number of state components."""
        return len(self._first.incoming)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the state components."""
        return self._first.states.labels

    @cached_property
    def homogeneous(self) -> bool:
        """Whether every stage declares a positively homogeneous value function."""
        return all(compiled.homogeneous for compiled in self.stages.values())

    @property
    def accuracy(self) -> float:
        """Units of the LPs as a share of the sizes of their numbers; see `Scaling`."""
        return HOMOGENEOUS_ACCURACY if self.homogeneous else 1.0

    @cached_property
    def money(self) -> float:
        """Size of the largest stage's costs, a power of two: below it nothing is relative."""
        costly = {id(stage): stage for stage in self.stages.values() if stage.cost.any()}
        return max((self.scaling(stage).money for stage in costly.values()), default=1.0)

    def scaling(self, stage: StageData) -> Scaling:
        """Units of the declared columns and rows of a stage, of the problem or beside it."""
        known, scaling = self._scalings.get(id(stage), (None, None))
        if known is not stage or scaling is None:  # identities are others after unpickling
            scaling = stage_scaling(stage, self._state_sizes)
            self._scalings[id(stage)] = (stage, scaling)
        return scaling

    @cached_property
    def _scalings(self) -> dict[int, tuple[StageData, Scaling]]:
        return {}  # the stage is kept, so that no other one gets its identity

    @cached_property
    def _state_sizes(self) -> Floats:
        """Typical sizes of the state components, for the units of the stages."""
        if self.homogeneous:
            return self.state_units
        return state_sizes({id(stage): stage for stage in self.stages.values()}.values())

    @cached_property
    def state_units(self) -> Floats:
        """Units of the state components, in which the size of a homogeneous state is a sum."""
        if not self.homogeneous:
            return np.ones(self.n_components)
        return cone_units({id(stage): stage for stage in self.stages.values()}.values())

    def state_sizes(self, states: Floats) -> Floats:
        """Sizes of states, in the last dimension: sums of absolute values in `state_units`."""
        sizes: Floats = np.abs(states) @ (1.0 / self.state_units)
        return sizes

    def initial_state(self, name: NodeName) -> Floats:
        """State that enters a first node."""
        initial = self.stages[name].initial
        if initial is None:
            raise ModelError(f"node {name!r} comes first but its states have no initial value")
        return initial

    def normalized(self, state: Floats) -> tuple[Floats, float]:
        """The state scaled to size 1 and its size, if homogeneous; see `state_sizes`."""
        size = float(self.state_sizes(state)) if self.homogeneous else 1.0
        return (state / size, size) if size > 0.0 else (state, 1.0)

    def report(self) -> ProblemReport:
        """Sizes of the problem, and how far its numbers reach: before anything is solved.

        Returns
        -------
        ProblemReport
            Nodes, arcs, states, columns, rows, noises and paths; the smallest and largest entries
            of matrix, objective, bounds and right-hand sides over all nodes and noises, with their
            places; warnings where they span more than scaling can mend.
        """
        return problem_report(self.graph, self.stages, self.scaling)

    def write_stage(
        self,
        node: NodeName,
        noise: NoiseChoice,
        path: str | PathLike[str],
        *,
        state: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the linear program of one node, without its cost-to-go, to a file.

        It is written as it was declared, in the user's names, units and sense. Rows of a row
        generator are not known beforehand and so not in it; see `Policy.write_stage`.

        Parameters
        ----------
        node : hashable
        noise : int or mapping from parameter name to float
            Position in the node's support, or values of its parameters; None where the node has no
            noise.
        path : str or PathLike
            Ends in ``.lp`` or ``.mps``, which says the format.
        state : mapping from state name to value, optional
            Incoming state, fixed in the file. By default the initial state; a node that has none
            leaves its incoming variables within their declared bounds.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ModelError
            Node, noise or state are unknown or incomplete, or the ending is another one.
        OSError
            The file cannot be written.
        """
        target = checked_path(path)
        if node not in self.stages:
            raise ModelError(f"node={node!r}: must be one of {list(self.stages)[:5]} ...")
        compiled = self.stages[node]
        entries = noise_entries(compiled, noise, node)
        incoming = compiled.initial if state is None else compiled.states.flatten(state)
        stage_model(compiled, entries, incoming).write(target)
        return target

    def first_outcomes(self) -> list[tuple[NodeName, int, float]]:
        """Node, noise and probability of everything that may come before the first decision."""
        return [
            (name, w, p * q)
            for name, p in self.graph.children(self.graph.root)
            for w, q in enumerate(self.stages[name].noise.probabilities)
        ]

    def given_bound(self, name: NodeName) -> float | None:
        """The user's bound on the cost-to-go of a node, in engine units.

        Where the problem is homogeneous, for states of size 1. A value that is never negative is
        then 0 at the least; another one is loosened, see `LOOSENED`.
        """
        bound = self.cost_to_go_bound
        if isinstance(bound, Mapping):
            bound = bound.get(name)
        if bound is None:
            return None
        given = self.sign * float(bound)
        if not self.homogeneous:
            return given
        first = [self.initial_state(child) for child, _ in self.graph.children(self.graph.root)]
        size = min(self.normalized(state)[1] for state in first)
        return 0.0 if given >= 0.0 else LOOSENED * given / size

    @property
    def _first(self) -> StageData:
        return next(iter(self.stages.values()))

    def _check_agreement(self) -> None:
        first_name, first = next(iter(self.stages.items()))
        for name, stage in self.stages.items():
            if stage.sign != first.sign:
                raise ModelError(f"node {name!r} and node {first_name!r} have opposite senses")
            if stage.states.labels != first.states.labels:
                raise ModelError(
                    f"node {name!r} has states {stage.states.labels}, node {first_name!r} has "
                    f"{first.states.labels}; all nodes need the same"
                )

    def _check_handing_on(self) -> None:
        for name, stage in self.stages.items():
            if self.graph.children(name) and len(stage.outgoing) == 0:
                raise ModelError(
                    f"node {name!r} is followed by others but its states have no outgoing variable"
                )
        for name, _ in self.graph.children(self.graph.root):
            self.initial_state(name)

    def _check_bound(self) -> None:
        bound = self.cost_to_go_bound
        given = bound if isinstance(bound, Mapping) else {None: bound}
        for name, value in given.items():
            if name is not None and name not in self.stages:
                raise ModelError(f"cost_to_go_bound names node {name!r}, which is unknown")
            if value is not None and not (isinstance(value, Real) and np.isfinite(value)):
                of_node = "" if name is None else f" of node {name!r}"
                raise ModelError(
                    f"cost_to_go_bound{of_node} = {value!r}: must be a finite number; leave it out "
                    "instead"
                )

    def _facts(self) -> dict[str, str]:
        distinct = len({id(stage) for stage in self.stages.values()})
        return {
            "nodes": str(len(self.stages)),
            "different stages": str(distinct),
            "state": listed(self.labels),
            "sense": "maximize" if self.sign < 0.0 else "minimize",
        }


def check_cone(stage: StageData, where: str) -> None:
    """Reject a stage that declares itself homogeneous but holds a constant.

    Every side of a row, every bound of a variable and the objective's constant must be 0 or
    infinite, under every noise, and the transition must not shift the state.
    """
    decisions = np.setdiff1d(np.arange(stage.n_columns), stage.incoming)
    sides: dict[str, tuple[Sequence[str], Floats]] = {
        "row_lower": (stage.row_names, stage.row_lower),
        "row_upper": (stage.row_names, stage.row_upper),
        "column_lower": ([stage.column_names[i] for i in decisions], stage.column_lower[decisions]),
        "column_upper": ([stage.column_names[i] for i in decisions], stage.column_upper[decisions]),
    }
    for place, (names, values) in sides.items():
        for i in np.flatnonzero(np.isfinite(values) & (values != 0.0)).tolist():
            raise _no_cone(where, f"{names[i]} holds the constant {values[i]:g}")
        if np.any(stage.noise.values[place]):
            raise _no_cone(where, f"noise enters {place}")
    if stage.offset != 0.0 or np.any(stage.noise.values["offset"]):
        raise _no_cone(where, "the objective holds a constant")
    if stage.transition.shift is not None:
        raise _no_cone(where, "its transition shifts the state")


def _no_cone(where: str, why: str) -> ModelError:
    return ModelError(
        f"{where} declares homogeneous=True, but {why}; make every constraint a cone (write the "
        "constant as a share of the state) or drop the declaration"
    )


def _closed(cut: InitialCut, position: int, n_components: int, where: str) -> InitialCut:
    """The same with numbers of its own: finite, one slope for each state component."""
    what = f"{where}: initial cut {position}"
    try:
        closed = replace(cut, slope=read_only(cut.slope), intercept=float(cut.intercept))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{where}: {cut!r} is not an InitialCut of numbers: {error}") from error
    slope: Floats = np.asarray(closed.slope)
    if slope.shape != (n_components,):
        raise ModelError(
            f"{what} has a slope of shape {slope.shape}; it needs ({n_components},), one number "
            "for each state component"
        )
    bad = np.flatnonzero(~np.isfinite(slope))
    if len(bad):
        raise ModelError(
            f"{what}: slope[{bad[0]}] = {slope[bad[0]]}: must be finite; leave the cut out, or "
            "give a slope that bounds the value function"
        )
    if not np.isfinite(closed.intercept):
        raise ModelError(
            f"{what}: intercept = {closed.intercept}: must be finite; leave the cut out instead"
        )
    return closed
