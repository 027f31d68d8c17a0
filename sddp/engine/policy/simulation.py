"""Simulation of a policy: a labelled table, one row per decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pandas as pd

from sddp.arrays import Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.model.sampling import (
    AdaptivePath,
    InSample,
    SamplingScheme,
    Step,
    Successors,
    begin_path,
)
from sddp.engine.stage.transition import LinearTransition, compile_transition
from sddp.engine.subproblem.solutions import StageSolution
from sddp.errors import ModelError
from sddp.rng import Rng, generator


class Decider(Protocol):
    """What is simulated: a policy."""

    problem: Problem

    def solve_step(
        self, name: NodeName, incoming: Floats, noise: int | Mapping[str, float] | None
    ) -> tuple[StageSolution, float]:
        """Solution at a state vector, for the state at size 1, and that size."""
        ...

    def successors(self, name: NodeName | None, outgoing: Floats | None) -> Successors:
        """What may follow a decision, or come before the first one (None)."""
        ...


def simulate(
    policy: Decider,
    n_paths: int,
    *,
    rng: Rng,
    record: Sequence[str] = (),
    sampling: SamplingScheme | None = None,
) -> pd.DataFrame:
    """Follow a policy along paths.

    Parameters
    ----------
    policy : Policy
    n_paths : int
    rng : int, SeedSequence or Generator
        Draws the paths; equal states give equal tables.
    record : sequence of str
        Pyomo variables to keep, by the name that Pyomo gives them (``"thermal"``,
        ``"buy[gold]"``, ``"buy['BRK.B']"``), or the name of an indexed variable for all its
        members.
    sampling : SamplingScheme, optional
        `InSample` by default; `Historical`, `OutOfSample` and `RiskAdjusted` follow other paths.

    Returns
    -------
    DataFrame
        Index (path, stage). Columns: ``node``, ``noise`` (position in the support, or -1 for
        given values), ``objective`` (of the stage alone, so that their sum over a path is its
        total), ``cost_to_go``, ``<state>.in`` and ``<state>.out`` for every state component,
        and the recorded variables (NaN at nodes that lack them).

    Raises
    ------
    ModelError
        A recorded variable exists at no node, or a path has an unknown node or noise.
    InfeasibleState
        A path leads to a state from which nothing is feasible.
    """
    if n_paths < 1:
        raise ModelError(f"n_paths = {n_paths}; simulate at least one path")
    rng = generator(rng)
    sampling = sampling or InSample()
    columns = {name: _columns(policy, name, record) for name in policy.problem.graph.nodes}
    _check_record(policy, record)
    rows: list[dict[str, Any]] = []
    for number in range(n_paths):
        sampled = sampling.sample(policy.problem, number, rng)
        rows.extend(_follow(policy, sampled, number, columns))
    return pd.DataFrame(rows).set_index(["path", "stage"])


def _follow(
    policy: Decider,
    sampled: Sequence[Step] | AdaptivePath,
    number: int,
    columns: dict[NodeName, dict[str, int]],
) -> list[dict[str, Any]]:
    problem = policy.problem
    labels = problem.labels
    path, rest = begin_path(sampled, policy.successors(None, None))
    path = list(path)
    if not path:
        raise ModelError(f"path {number} is empty; give at least one decision")
    for step in path:
        if step.node not in problem.stages:
            raise ModelError(f"path {number}: node {step.node!r} is unknown")
    rows: list[dict[str, Any]] = []
    state = problem.initial_state(path[0].node)
    outgoing = state
    for stage, step in enumerate(path):  # a path that is chosen step by step grows meanwhile
        if stage > 0:
            state = _arrive(policy, step, outgoing)
        solution, size = policy.solve_step(step.node, state, step.noise)
        outgoing = size * solution.outgoing
        if rest is not None:
            path.extend(_next_steps(rest, policy.successors(step.node, solution.outgoing)))
        row = {
            "path": number,
            "stage": stage,
            "node": step.node,
            "noise": -1 if isinstance(step.noise, Mapping) else int(step.noise),
            "objective": problem.sign * size * (solution.value - solution.theta),
            "cost_to_go": problem.sign * size * solution.theta,
        }
        row |= {f"{label}.in": value for label, value in zip(labels, state, strict=True)}
        row |= {f"{label}.out": value for label, value in zip(labels, outgoing, strict=False)}
        row |= {n: size * solution.columns[c] for n, c in columns[step.node].items()}
        rows.append(row)
    return rows


def _next_steps(rest: AdaptivePath, successors: Successors) -> list[Step]:
    step = rest.next_step(successors)
    return [] if step is None else [step]


def _arrive(policy: Decider, step: Step, outgoing: Floats) -> Floats:
    stage = policy.problem.stages[step.node]
    if not isinstance(step.arrival, LinearTransition):
        n_realisations = stage.transition.n_realisations
        if not 0 <= step.arrival < n_realisations:
            raise ModelError(
                f"path at node {step.node!r}: arrival = {step.arrival} is outside "
                f"0..{n_realisations - 1}"
            )
        return stage.transition.arrive(outgoing, step.arrival)
    given = compile_transition(step.arrival, stage.states.sizes, f"path at node {step.node!r}")
    if given.n_realisations != 1:
        raise ModelError(
            f"the arrival at node {step.node!r} has {given.n_realisations} realisations; give one"
        )
    return given.arrive(outgoing, 0)


def _columns(policy: Decider, name: NodeName, record: Sequence[str]) -> dict[str, int]:
    stage = policy.problem.stages[name]
    named = zip(stage.column_names, stage.column_groups, strict=True)
    return {
        column: i for i, (column, group) in enumerate(named) if column in record or group in record
    }


def _check_record(policy: Decider, record: Sequence[str]) -> None:
    stages = policy.problem.stages.values()
    known = {name for stage in stages for name in (*stage.column_names, *stage.column_groups)}
    missing = [name for name in record if name not in known]
    if missing:
        raise ModelError(f"record names {missing[0]!r}, which is a variable of no node")
