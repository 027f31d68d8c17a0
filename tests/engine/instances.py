"""Random small problems: once as plain arrays (`tests.oracles.Tree`), once as `sddp.Problem`.

The conversion to Pyomo makes a mutable parameter of every number that differs between the
realisations of a node: right-hand sides, bounds, costs, the constant, and the matrix over
incoming states and decisions alike.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyomo.environ as pyo
import scipy.sparse as sp

import sddp
from tests.oracles import NEUTRAL, Mixture, StageArrays, Tree, TreeNode

LINEAR = {("root", 0): 1.0, (0, 1): 1.0, (1, 2): 1.0}
STOPPING = {("root", 0): 1.0, (0, 1): 0.8, (1, 2): 0.7}
MARKOV = {
    ("root", "a"): 0.4,
    ("root", "b"): 0.6,
    ("a", "c"): 0.3,
    ("a", "d"): 0.7,
    ("b", "c"): 1.0,
}
# A skipped stage, a stop, and two ways to the same node.
GENERAL = {("root", 0): 1.0, (0, 1): 0.5, (0, 2): 0.3, (1, 2): 0.9}
GRAPHS = {"linear": LINEAR, "stopping": STOPPING, "markov": MARKOV, "general": GENERAL}
TRANSITIONS = ("none", "scale", "dense", "sparse", "shift")


@dataclass(frozen=True)
class Instance:
    """One problem in both forms; costs are minimised, or their negatives maximised."""

    tree: Tree
    transition: str
    maximises: bool
    indexed: bool

    @property
    def sign(self) -> float:
        """User's value = sign times cost."""
        return -1.0 if self.maximises else 1.0

    def problem(self, **options: object) -> sddp.Problem:
        """The same problem through the public interface."""
        graph = sddp.Graph(list(self.tree.nodes), self.tree.arcs)
        return sddp.Problem(graph, lambda node: self._stage(node.name), **options)

    def risk(self) -> dict[Hashable, sddp.risk.RiskMeasure]:
        """Risk measures by node."""
        return {name: _measure(mixture) for name, mixture in self.tree.risk.items()}

    def root_risk(self) -> sddp.risk.RiskMeasure:
        """Risk measure before the first decision."""
        return _measure(self.tree.root_risk)

    def state(self, vector: np.ndarray) -> dict[str, object]:
        """Labelled state."""
        if self.indexed:
            return {"s": dict(enumerate(vector))}
        return {f"s{i}": value for i, value in enumerate(vector)}

    def _stage(self, name: Hashable) -> sddp.Stage:
        node = self.tree.nodes[name]
        return _StageWriter(node, self.sign, self.indexed).stage(
            self.tree.initial, _transition(node, self.transition)
        )


def random_instance(
    seed: int,
    *,
    graph: str = "linear",
    transition: str = "none",
    noise: int = 2,
    mixture: Mixture | None = None,
    root_mixture: Mixture = NEUTRAL,
    maximises: bool = False,
    indexed: bool = True,
) -> Instance:
    """Bounded problem with relatively complete recourse; two states, nine decisions a stage.

    `noise` is the number of realisations seen before each decision; above 2 the largest of
    numbers that differ between nodes. `mixture` is the risk at every node, `root_mixture` that
    before the first decision.
    """
    rng = np.random.default_rng(seed)
    arcs = GRAPHS[graph]
    names = list(dict.fromkeys(target for _, target in arcs))
    nodes = {name: _random_node(rng, noise, transition) for name in names}
    risk = {} if mixture is None else dict.fromkeys(names, mixture)
    tree = Tree(nodes, arcs, rng.uniform(0.0, 3.0, 2), risk, root_mixture)
    return Instance(tree, transition, maximises, indexed)


def _random_node(rng: np.random.Generator, noise: int, transition: str) -> TreeNode:
    base = _random_stage(rng)
    n_realisations = int(rng.integers(1, noise + 1)) if noise > 2 else noise
    realisations = [_vary(base, rng) for _ in range(n_realisations)] if noise > 1 else [base]
    n_arrivals = 1 if transition == "none" else 2
    arrivals = [_random_arrival(rng, transition) for _ in range(n_arrivals)]
    return TreeNode(
        realisations,
        _random_probabilities(rng, n_realisations),
        arrivals,
        _random_probabilities(rng, n_arrivals),
    )


def _random_probabilities(rng: np.random.Generator, n: int) -> np.ndarray:
    """None so small that sampled paths would rarely see its outcome."""
    weights = rng.uniform(0.3, 1.0, n)
    return weights / weights.sum()


def _random_stage(rng: np.random.Generator) -> StageArrays:
    """Columns: outgoing (2), buy (2), moving, defined, waste, slack (2).

    Rows: `defined` is an affine function of the rest (it can be substituted); bounds on `buy`
    and `moving` that move with the incoming state; a balance; two rows with slack.
    """
    columns = dict(zip(("buy0", "buy1", "moving", "defined", "waste"), range(2, 7), strict=True))
    rows_in, rows, rhs = np.zeros((7, 2)), np.zeros((7, 9)), np.zeros(7)
    rows_in[0], rhs[0] = rng.normal(size=2), rng.normal()
    rows[0, 2:5], rows[0, columns["defined"]] = rng.normal(size=3), -1.0
    drift = rng.uniform(0.0, 1.0, 2)
    rows_in[1], rows[1, columns["buy0"]], rhs[1] = -rng.uniform(0.0, 1.0, 2), 1.0, 2.0
    rows_in[2], rows[2, columns["moving"]], rhs[2] = drift, -1.0, 3.0
    rows_in[3], rows[3, columns["moving"]], rhs[3] = -3.0 * drift, 2.0, 4.0
    rows_in[4, 1] = -1.0
    rows[4, [1, columns["buy1"], columns["waste"]]] = 1.0, -1.0, 1.0
    for i, slack in ((5, 7), (6, 8)):
        rows_in[i], rows[i, :6], rhs[i] = rng.normal(size=2), rng.normal(size=6), rng.normal()
        rows[i, slack] = -1.0
    cost = np.concatenate([rng.normal(size=6), rng.uniform(0.1, 1.0, 1), [15.0, 20.0]])
    cost[columns["defined"]] *= 0.3
    lower = np.array([0.0, 0.0, 0.0, 0.0, -np.inf, -np.inf, 0.0, 0.0, 0.0])
    upper = np.array([8.0, 8.0, np.inf, 4.0, np.inf, np.inf, np.inf, np.inf, np.inf])
    equal = np.array([True, False, False, False, True, False, False])
    return StageArrays(cost, rng.normal(), rows_in, rows, rhs, equal, lower, upper)


def _vary(base: StageArrays, rng: np.random.Generator) -> StageArrays:
    """Another realisation: costs, constant, right-hand sides, matrix and bounds differ."""
    cost, rhs, upper = base.cost.copy(), base.rhs.copy(), base.upper.copy()
    rows_in, rows, lower = base.rows_in.copy(), base.rows.copy(), base.lower.copy()
    cost[[0, 3, 7]] *= rng.uniform(0.5, 1.5, 3)
    rhs[5:] += rng.normal(size=2)
    rows_in[5, 0], rows[5, 3], rows[6, 0] = rng.normal(size=3)
    upper[[0, 3]] += rng.uniform(-3.0, 0.0, 2)
    lower[1] += rng.uniform(0.0, 0.1)
    # What is wasted absorbs a lower bound on the state; buying may have to cover it.
    return replace(
        base,
        cost=cost,
        fixed=rng.normal(),
        rows_in=rows_in,
        rows=rows,
        rhs=rhs,
        lower=lower,
        upper=upper,
    )


def _random_arrival(rng: np.random.Generator, transition: str) -> tuple[np.ndarray, np.ndarray]:
    matrix, shift = np.eye(2), np.zeros(2)
    if transition == "scale":
        matrix = np.diag(rng.uniform(0.5, 1.3, 2))
    elif transition in ("dense", "sparse"):
        matrix = rng.uniform(0.1, 0.8, (2, 2))
        if transition == "sparse":
            matrix[0, 1] = 0.0
    if transition in ("shift", "sparse"):
        shift = rng.uniform(0.0, 1.0, 2)
    return matrix, shift


def _transition(node: TreeNode, kind: str) -> sddp.LinearTransition | None:
    matrices = np.array([matrix for matrix, _ in node.arrivals])
    shifts = np.array([shift for _, shift in node.arrivals])
    p = node.arrival_probabilities
    if kind == "none":
        return None
    if kind == "scale":
        return sddp.LinearTransition(scale=np.diagonal(matrices, axis1=1, axis2=2), probabilities=p)
    if kind == "dense":
        return sddp.LinearTransition(matrix=matrices, probabilities=p)
    if kind == "sparse":
        blocks = [sp.csr_array(matrix) for matrix in matrices]
        return sddp.LinearTransition(matrix=blocks, shift=shifts, probabilities=p)
    return sddp.LinearTransition(shift=shifts, probabilities=p)


def _measure(mixture: Mixture) -> sddp.risk.RiskMeasure:
    terms = [weight * sddp.AVaR(tail) for weight, tail in mixture]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class _StageWriter:
    """Writes a node of plain arrays as a Pyomo model; what differs becomes a parameter."""

    def __init__(self, node: TreeNode, sign: float, indexed: bool) -> None:
        self._node, self._sign, self._indexed = node, sign, indexed
        self._values: list[list[float]] = []
        self._m = pyo.ConcreteModel()
        # More than ever needed; Pyomo sets cannot grow while expressions are built.
        self._m.noise = pyo.Param(range(64), mutable=True, initialize=0.0)

    def stage(self, initial: np.ndarray, transition: sddp.LinearTransition | None) -> sddp.Stage:
        m, first = self._m, self._node.realizations[0]
        incoming, outgoing, states = self._states(initial)
        n_columns = len(first.cost)
        bounds = [(self._bound("lower", j), self._bound("upper", j)) for j in range(n_columns)]
        m.z = pyo.Var(range(2, n_columns), bounds=lambda m, j: bounds[j])
        for j, variable in enumerate(outgoing):
            variable.setlb(bounds[j][0])
            variable.setub(bounds[j][1])
        z = [*outgoing, *(m.z[j] for j in range(2, n_columns))]
        m.rows = pyo.Constraint(range(len(first.rhs)), rule=lambda m, i: self._row(i, incoming, z))
        cost = sum(self._number("cost", j) * z[j] for j in range(n_columns))
        m.objective = pyo.Objective(
            expr=self._sign * (cost + self._number("fixed", ())),
            sense=pyo.maximize if self._sign < 0 else pyo.minimize,
        )
        return sddp.Stage(m, states, noise=self._noise(), transition=transition)

    def _states(self, initial: np.ndarray) -> tuple[list, list, Mapping[str, sddp.State]]:
        m = self._m
        if self._indexed:
            m.x_in, m.x = pyo.Var(range(2)), pyo.Var(range(2))
            state = {"s": sddp.State(m.x_in, m.x, initial=list(initial))}
            return [m.x_in[0], m.x_in[1]], [m.x[0], m.x[1]], state
        m.x0_in, m.x0, m.x1_in, m.x1 = (pyo.Var() for _ in range(4))
        states = {
            "s0": sddp.State(m.x0_in, m.x0, initial=float(initial[0])),
            "s1": sddp.State(m.x1_in, m.x1, initial=float(initial[1])),
        }
        return [m.x0_in, m.x1_in], [m.x0, m.x1], states

    def _row(self, i: int, incoming: list, z: list) -> object:
        first = self._node.realizations[0]
        body = sum(
            self._number("rows_in", (i, j)) * incoming[j]
            for j in range(2)
            if self._needed("rows_in", (i, j))
        ) + sum(
            self._number("rows", (i, j)) * z[j]
            for j in range(len(z))
            if self._needed("rows", (i, j))
        )
        rhs = self._number("rhs", i)
        return body == rhs if first.equal[i] else body <= rhs

    def _all(self, name: str, at: object) -> list[float]:
        return [float(np.asarray(getattr(r, name))[at]) for r in self._node.realizations]

    def _needed(self, name: str, at: object) -> bool:
        return any(value != 0.0 for value in self._all(name, at))

    def _number(self, name: str, at: object) -> object:
        values = self._all(name, at)
        if len(set(values)) == 1:
            return values[0]
        self._values.append(values)
        return self._m.noise[len(self._values) - 1]

    def _bound(self, name: str, j: int) -> object:
        return self._number(name, j) if np.isfinite(self._all(name, j)).all() else None

    def _noise(self) -> sddp.Noise | None:
        if not self._values:
            return None
        table = np.array(self._values).T
        names = [f"noise[{k}]" for k in range(table.shape[1])]
        return sddp.Noise(
            [dict(zip(names, row.tolist(), strict=True)) for row in table],
            self._node.probabilities,
        )
