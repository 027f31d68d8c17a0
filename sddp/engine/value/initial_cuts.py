"""What is known of value functions before training: their form, and initial cuts.

A cut says what it is about. One pool holds cuts of the mean of ``v(x, w)`` over the node's noise:
enough where only the expectation looks at it. Where a risk measure does, each realization has a
pool of its own, and a bound on the mean says nothing about any of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from numbers import Integral

import numpy as np

from sddp.arrays import read_only
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.stage.declaration import InitialCut
from sddp.engine.value.cuts import Cut, Cuts, ValueFunction
from sddp.errors import ModelError
from sddp.risk import Expectation, RiskMeasure


def averse_nodes(risk: Mapping[NodeName, RiskMeasure]) -> frozenset[NodeName]:
    """Nodes whose measure is not the expectation."""
    return frozenset(name for name, m in risk.items() if not isinstance(m, Expectation))


def value_function(problem: Problem, name: NodeName, averse: Collection[NodeName]) -> ValueFunction:
    """What is known of a node before training; for `averse` see `averse_nodes`.

    Raises
    ------
    ModelError
        An initial cut is about the mean over the noise, but each realization has cuts of its own.
    """
    noise = problem.stages[name].noise
    neutral = not averse or not any(parent in averse for parent in problem.graph.parents(name))
    apart = any(_is_position(cut.noise) for cut in problem.initial_cuts[name])
    averaged = neutral and not apart and noise.n_realisations > 1
    weights = read_only([1.0]) if averaged else noise.probabilities
    function = ValueFunction(problem.n_components, weights, averaged, problem.money)
    for cut in problem.initial_cuts[name]:
        slope = problem.sign * np.asarray(cut.slope, dtype=float)
        for pool in _pools(function, cut, name, noise.n_realisations, apart):
            pool.add(Cut(slope, problem.sign * cut.intercept))
    return function


def bounded_beforehand(problem: Problem, name: NodeName) -> bool:
    """Whether initial cuts bound every realization."""
    about = {cut.noise for cut in problem.initial_cuts[name]}
    everywhere = None in about or "each" in about
    all_apart = about >= set(range(problem.stages[name].noise.n_realisations))
    return everywhere or all_apart


def _is_position(noise: object) -> bool:
    return isinstance(noise, Integral) and not isinstance(noise, bool)


def _pools(
    function: ValueFunction, cut: InitialCut, name: NodeName, n_noises: int, apart: bool
) -> list[Cuts]:
    """The pools for which a cut is valid."""
    where = f"node {name!r}: InitialCut(..., noise={cut.noise!r})"
    if _is_position(cut.noise):
        if not 0 <= int(cut.noise) < n_noises:  # type: ignore[arg-type]
            raise ModelError(f"{where}: must be a position in 0..{n_noises - 1}.")
        return [function.pools[int(cut.noise)]]  # type: ignore[arg-type]
    if cut.noise not in (None, "each"):
        raise ModelError(f"{where}: must be None, 'each' or a position in 0..{n_noises - 1}.")
    if cut.noise is None and len(function.pools) > 1:
        why = (
            "others of its cuts are about single realizations"
            if apart
            else "a risk measure at a node before it looks at each realization"
        )
        raise ModelError(
            f"{where} bounds the mean over the node's {n_noises} noise realizations, but {why}; "
            "give the cut of each realization (noise=0, 1, ...), or noise='each' for one that is "
            "valid under every one of them"
        )
    return function.pools
