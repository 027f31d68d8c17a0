"""What a user declares about one decision: a Pyomo model with states and noise.

The declarations only hold what was written; `read_stage` checks and translates them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from numpy.typing import ArrayLike

from sddp.arrays import Floats
from sddp.engine.stage.transition import LinearTransition


@dataclass(frozen=True, eq=False)
class State:
    """A state variable as a pair of Pyomo variables, scalar or indexed alike.

    Parameters
    ----------
    incoming : pyomo Var
        Its value is given when the stage is solved; bounds declared on it are not constraints.
    outgoing : pyomo Var or None
        The decision that is handed on. None at a node that nothing follows.
    initial : float, or mapping / sequence over the index, optional
        Value that enters the first decision; needed at the root's children only.
    """

    incoming: Any
    outgoing: Any = None
    initial: Any = None


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise seen before the decision: values of mutable Pyomo parameters.

    Parameters
    ----------
    realisations : sequence of mappings from parameter to float
        Every realisation gives a value to the same parameters, by name in the model:
        ``{"inflow": 50.0}`` or ``{"rain[1]": 20.0, "rain[2]": 0.0}``. (Pyomo's parameters are
        not hashable, so they cannot be keys of a dictionary; those of a `ComponentMap` they can.)
    probabilities : array, shape (n_realisations,), optional
        Equiprobable by default. A realisation of probability 0 is no outcome and is left out;
        positions in the support count the others.
    """

    realisations: Sequence[Mapping[Any, float]]
    probabilities: ArrayLike | None = None


@dataclass(frozen=True, eq=False)
class InitialCut:
    """A bound on the value function of a node known before training.

    ``V(x) >= intercept + slope.x`` for costs, ``<=`` for rewards; `slope` has one number for
    each state component, in the order of the stage's states. Without noise before the decision
    there is one value ``V(x)``; with it, `noise` says what the bound is about.

    Parameters
    ----------
    slope : array, shape (n_components,)
    intercept : float
    noise : None, int or "each"
        None: the mean over the node's noise, as `Policy.value` states it without `noise`. A
        position in the support: the value under that realization. ``"each"``: the value under
        every one of them. A mean fits only where no risk measure looks at single realizations:
        where the node before takes the expectation.
    """

    slope: ArrayLike
    intercept: float = 0.0
    noise: int | Literal["each"] | None = None


class RowGenerator(Protocol):
    """Constraints written only when a solution breaks them.

    A generator may have one more method, ``at_combinations(outgoing)``, for the inner bound:
    rows that imply all of its rows where the outgoing state is a combination of given points, an
    array (n_points, n_components) of size 1 each in homogeneous problems. It returns
    coefficients of the combination's weights (n_rows, n_points) and of the variables
    (n_rows, n_variables), and the upper sides (n_rows,). Without it the rows are generated as in
    training, and the bound is a little tighter and slower.

    A generator whose rows are those of a limit on a tail mean may have a method ``tail_form()``
    that returns them as a `TailForm`: compiled training then finds them by itself. Training with
    any other generator is left to HiGHS.

    A generator holds numbers, no Pyomo object: the variables are those of `Stage.row_variables`,
    in their order. A compiled stage keeps a copy of it. What it answers must follow from what it is
    asked alone: paths of one iteration are worked on in an order that depends on ``n_jobs``, some
    of them in other processes, where what it may remember is lost. To be written to a policy file
    it must be a dataclass of plain data, or have a method ``arguments()`` that returns the
    arguments of its constructor, and its class must be one that can be imported.
    """

    @property
    def pool_key(self) -> Hashable:
        """Generators with equal keys produce rows valid for each other; the engine shares them."""
        ...

    def violated(self, values: Floats, tolerance: float) -> tuple[Floats, Floats]:
        """Rows ``coefficients @ variables <= upper`` that `values` breaks by more than `tolerance`.

        The engine asks for every row that is broken (`tolerance` 0) and leaves out those that are
        broken by rounding, relative to their terms: the units of rows and variables are free.
        Returns `coefficients` (n_rows, n_variables) and `upper` (n_rows,); no rows where all
        constraints hold. The right-hand side of a row must not depend on the incoming state:
        write incoming variables into the row instead.
        """
        ...

    def digest(self) -> str:
        """Text that differs between generators of different rows (for policy files)."""
        ...


@dataclass(frozen=True, eq=False)
class Stage:
    """One decision problem.

    Parameters
    ----------
    model : pyomo ConcreteModel or Block
        Linear, continuous, with one active objective, whose sense is that of the problem.
    states : mapping from name to State
        The same names and sizes at every node.
    noise : Noise, optional
        Seen before the decision.
    transition : LinearTransition, optional
        How the state handed on by the decision before arrives here (noise after that decision).
    rows : RowGenerator, optional
        Constraints added lazily.
    row_variables : sequence of pyomo Var, optional
        The variables in which `rows` writes its constraints, one value each.
    homogeneous : bool
        Declares the value function positively homogeneous (all constraints are cones): states
        are normalized and cuts pass through the origin. Checked on random scalings in training.
    initial_cuts : sequence of InitialCut
        Valid bounds on this node's value function.
    """

    model: Any
    states: Mapping[str, State]
    noise: Noise | None = None
    transition: LinearTransition | None = None
    rows: RowGenerator | None = None
    row_variables: Sequence[Any] = ()
    homogeneous: bool = False
    initial_cuts: Sequence[InitialCut] = field(default_factory=tuple)
