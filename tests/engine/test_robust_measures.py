"""Distributionally robust measures: published values, other solvers, and a trained policy."""

from __future__ import annotations

import itertools

import numpy as np
import pyomo.environ as pyo
import pytest
from scipy.optimize import linprog, minimize, minimize_scalar

import sddp
from sddp.engine.value.outcomes import Outcome
from sddp.errors import ModelError
from sddp.risk import CVaR, Expectation
from sddp.robust_risk import ModifiedChiSquared, NoiseDistance, Wasserstein
from tests.engine.support import train


def test_published_values():
    """Five equally likely costs, and four points on a line with rewards."""
    q, offset = ModifiedChiSquared(0.25).adjust(np.full(5, 0.2), [-2.0, -1.0, -3.0, -4.0, -5.0])
    np.testing.assert_allclose(q, [0.279057, 0.358114, 0.2, 0.120943, 0.041886], atol=5e-7)
    assert offset == 0.0
    points = np.array([0.5, 0.3, 0.6, 0.4])
    measure = Wasserstein(0.1, np.abs(points[:, None] - points))
    q, _ = measure.adjust(np.full(4, 0.25), [1.1, 1.2, 0.6, 1.3], "max")
    np.testing.assert_allclose(q, [0.0, 1.0 / 6.0, 5.0 / 6.0, 0.0], atol=1e-12)


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    p, z = rng.dirichlet(np.full(n, 0.7)), rng.normal(size=n)
    if seed % 3 == 0:
        z = np.round(z)  # ties
    if seed % 4 == 0:
        p[0] = 0.0
        p /= p.sum()
    points = rng.normal(size=(n, 2))
    return p, z, np.linalg.norm(points[:, None] - points, axis=2)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("radius", [0.01, 0.2, 0.6, 2.0])
def test_chi_squared_against_a_general_solver(seed, radius):
    p, z, _ = drawn(seed)
    q, _ = ModifiedChiSquared(radius).adjust(p, z)
    assert q.min() >= 0.0
    assert q.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.linalg.norm(q - p) <= radius + 1e-9
    found = minimize(
        lambda x: -x @ z,
        p,
        jac=lambda x: -z,
        bounds=[(0.0, 1.0)] * len(p),
        constraints=[
            {"type": "eq", "fun": lambda x: x.sum() - 1.0, "jac": lambda x: np.ones_like(x)},
            {
                "type": "ineq",
                "fun": lambda x: radius**2 - ((x - p) ** 2).sum(),
                "jac": lambda x: -2.0 * (x - p),
            },
        ],
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert q @ z == pytest.approx(-found.fun, abs=1e-6)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("radius", [0.0, 0.05, 0.5, 5.0])
def test_wasserstein_against_the_transport_program(seed, radius):
    """The linear program of n^2 columns that the sorting replaces."""
    p, z, distance = drawn(seed)
    n = len(p)
    q, _ = Wasserstein(radius, distance).adjust(p, z)
    assert q.min() >= 0.0
    assert q.sum() == pytest.approx(1.0, abs=1e-12)
    found = linprog(
        -np.tile(z, n),
        A_ub=distance.reshape(1, -1),
        b_ub=[radius],
        A_eq=np.kron(np.eye(n), np.ones(n)),
        b_eq=p,
        method="highs",
    )
    assert q @ z == pytest.approx(-found.fun, abs=1e-9)
    assert transport_cost(p, q, distance) <= radius + 1e-8


def transport_cost(p, q, distance) -> float:
    n = len(p)
    arrivals = np.kron(np.ones(n), np.eye(n))
    found = linprog(
        distance.ravel(),
        A_eq=np.vstack([np.kron(np.eye(n), np.ones(n)), arrivals]),
        b_eq=np.concatenate([p, q]),
        method="highs",
    )
    return float(found.fun)


def euclidean(outcomes) -> np.ndarray:
    points = np.asarray(outcomes, dtype=float)[:, None]
    return np.abs(points - points.T)


def test_distances_may_be_a_function_of_the_outcomes():
    points, values = [0.5, 0.3, 0.6, 0.4], [1.1, 1.2, 0.6, 1.3]
    measure = 0.5 * Expectation() + 0.5 * Wasserstein(0.1, euclidean)
    q, _ = measure.adjust(np.full(4, 0.25), values, "max", points)
    np.testing.assert_allclose(q, 0.125 + 0.5 * np.array([0.0, 1.0, 5.0, 0.0]) / 6.0)
    assert measure.evaluate(np.full(4, 0.25), values, "max", points) == pytest.approx(q @ values)
    with pytest.raises(ModelError, match="not given here; give the array"):
        measure.adjust(np.full(4, 0.25), values, "max")


def test_mixtures_of_robust_measures_are_homogeneous():
    robust = 0.5 * CVaR(0.9) + 0.5 * ModifiedChiSquared(0.2)
    assert robust.positively_homogeneous
    assert robust.tail_mixture() is None
    assert not (0.5 * Expectation() + 0.5 * sddp.Entropic(1.0)).positively_homogeneous


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ModifiedChiSquared(-0.1), "radius=-0.1: must be a finite number of at least 0"),
        (lambda: Wasserstein(float("inf"), np.zeros((2, 2))), "radius=inf"),
        (lambda: Wasserstein(0.1, np.ones((2, 3))), r"shape \(2, 3\): must be a square array"),
        (lambda: Wasserstein(0.1, -np.ones((2, 2))), "finite numbers >= 0"),
        (lambda: Wasserstein(0.1, np.ones((2, 2))), "from itself must be 0"),
        (
            lambda: Wasserstein(0.1, np.zeros((3, 3))).adjust([0.5, 0.5], [1.0, 2.0]),
            r"shape \(3, 3\): must be \(2, 2\)",
        ),
    ],
)
def test_what_is_no_measure_raises(make, message):
    with pytest.raises(ModelError, match=message):
        make()


DEMANDS = np.array([1.0, 2.0, 3.0, 4.0, 6.0])


def newsvendor() -> sddp.Problem:
    """Buy at 1 before the demand is known, sell at 2 after."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(), pyo.Var(domain=pyo.NonNegativeReals)
        states = {"x": sddp.State(m.x_in, m.x, initial=0.0)}
        if node.stage == 0:
            m.cost = pyo.Objective(expr=m.x)
            return sddp.Stage(m, states)
        m.w = pyo.Param(mutable=True, initialize=0.0)
        m.s = pyo.Var(domain=pyo.NonNegativeReals)
        m.stock = pyo.Constraint(expr=m.s <= m.x_in)
        m.demand = pyo.Constraint(expr=m.s <= m.w)
        m.cost = pyo.Objective(expr=-2 * m.s)
        return sddp.Stage(m, states, noise=sddp.Noise([{"w": w} for w in DEMANDS]))

    return sddp.Problem(sddp.linear_graph(2), build, cost_to_go_bound=-20.0)


@pytest.mark.parametrize(
    "measure",
    [ModifiedChiSquared(0.2), Wasserstein(0.7, np.abs(DEMANDS[:, None] - DEMANDS))],
    ids=["chi-squared", "Wasserstein"],
)
def test_training_finds_the_robust_optimum(measure, tmp_path):
    """The best order by a search over orders, and the policy's bound; saved and loaded."""

    def cost(x: float) -> float:
        return x + measure.evaluate(np.full(5, 0.2), -2.0 * np.minimum(x, DEMANDS))

    pieces = [
        minimize_scalar(cost, bounds=pair, method="bounded", options={"xatol": 1e-10}).fun
        for pair in zip(np.append(0.0, DEMANDS[:-1]), DEMANDS, strict=True)
    ]
    result = train(newsvendor(), 60, risk=measure)
    assert result.bound == pytest.approx(min(*pieces, *map(cost, DEMANDS)), abs=1e-6)
    neutral = train(newsvendor(), 60).bound
    assert result.bound > neutral + 0.05
    result.policy.save(tmp_path / "policy.json")
    loaded = sddp.load_policy(tmp_path / "policy.json")
    assert loaded.bound == result.policy.bound


def test_training_gives_measures_the_outcomes():
    """The same numbers from a distance on outcomes as from the array of their distances."""
    by_array = train(newsvendor(), 60, risk=Wasserstein(0.7, np.abs(DEMANDS[:, None] - DEMANDS)))
    by_noise = train(newsvendor(), 60, risk=Wasserstein(0.7, NoiseDistance()))
    assert by_noise.bound == by_array.bound
    compiled = train(newsvendor(), 60, risk=Wasserstein(0.7, NoiseDistance()), stage_solver="auto")
    assert compiled.bound == pytest.approx(by_array.bound, abs=1e-9)


def test_a_distance_on_outcomes_is_saved(tmp_path):
    result = train(newsvendor(), 20, risk=Wasserstein(0.7, NoiseDistance(0.5)))
    result.policy.save(tmp_path / "policy.json")
    loaded = sddp.load_policy(tmp_path / "policy.json")
    found, kept = (p.decide(0, state={"x": 0.0}) for p in (loaded, result.policy))
    assert (found.value, found.outgoing) == (kept.value, kept.outgoing)


SCALES, STOP = np.array([0.5, 0.8, 1.1]), 0.125
SALES = {"calm": np.array([1.0, 3.0]), "wild": np.array([0.5, 4.0])}


def spoiled() -> sddp.Problem:
    """Buy; a share of the stock spoils; sell to a demand in one of two markets, or not at all."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(), pyo.Var(domain=pyo.NonNegativeReals)
        states = {"x": sddp.State(m.x_in, m.x, initial=0.0)}
        m.w = pyo.Param(mutable=True, initialize=0.0)
        if node.name == "buy":
            m.cost = pyo.Objective(expr=m.x * (1.0 + m.w))
            return sddp.Stage(m, states, noise=sddp.Noise([{"w": -0.1}, {"w": 0.2}]))
        m.s = pyo.Var(domain=pyo.NonNegativeReals)
        m.stock = pyo.Constraint(expr=m.s <= m.x_in)
        m.demand = pyo.Constraint(expr=m.s <= m.w)
        m.cost = pyo.Objective(expr=-3.0 * m.s)
        return sddp.Stage(
            m,
            states,
            noise=sddp.Noise([{"w": w} for w in SALES[node.name]], [0.25, 0.75]),
            transition=sddp.LinearTransition(SCALES[:, None], probabilities=[0.2, 0.3, 0.5]),
        )

    arcs = {("root", "buy"): 1.0, ("buy", "calm"): 0.5, ("buy", "wild"): 0.5 - STOP}
    graph = sddp.Graph(["buy", "calm", "wild"], arcs)
    return sddp.Problem(graph, build, cost_to_go_bound=-20.0)


def by_hand(radius: float, root_radius: float) -> float:
    """The best order at each price by a search; outcomes written out: node, demand, spoilage."""
    rows = [
        (market, chance * p * q, sale, scale)
        for market, chance in (("calm", 0.5), ("wild", 0.5 - STOP))
        for sale, p in zip(SALES[market], (0.25, 0.75), strict=True)
        for scale, q in zip(SCALES, (0.2, 0.3, 0.5), strict=True)
    ]
    rows.append(("end", STOP, 0.0, 0.0))
    weights = np.array([row[1] for row in rows])
    sales, scales = (np.array([row[i] for row in rows]) for i in (2, 3))
    distance = np.array(
        [
            [max(abs(a[2] - b[2]), abs(a[3] - b[3])) + 0.5 * (a[0] != b[0]) for b in rows]
            for a in rows
        ]
    )
    later = Wasserstein(radius, distance)

    def cost(x: float, price: float) -> float:
        return price * x + later.evaluate(weights, -3.0 * np.minimum(scales * x, sales))

    grid = np.unique(np.concatenate([SALES["calm"], SALES["wild"]])[:, None] / SCALES)
    grid = np.append(0.0, grid)
    values = [
        min(
            *(cost(x, price) for x in grid),
            *(
                minimize_scalar(
                    cost, args=(price,), bounds=pair, method="bounded", options={"xatol": 1e-11}
                ).fun
                for pair in itertools.pairwise(grid)
            ),
        )
        for price in (0.9, 1.2)
    ]
    return Wasserstein(root_radius, np.array([[0.0, 0.3], [0.3, 0.0]])).evaluate([0.5, 0.5], values)


def test_outcomes_of_both_noises_nodes_and_the_end():
    """Order, contents and the root's own measure, against the outcomes written out."""
    measure, root = Wasserstein(0.3, NoiseDistance(0.5)), Wasserstein(0.06, NoiseDistance())
    result = train(spoiled(), 60, risk=measure, root_risk=root)
    assert result.bound == pytest.approx(by_hand(0.3, 0.06), abs=1e-6)
    assert result.bound > train(spoiled(), 60).bound + 0.05
    found = result.policy.certificate(effort=40)
    assert found.gap == pytest.approx(0.0, abs=1e-5)


def test_distances_between_noises_of_different_numbers():
    with pytest.raises(ModelError, match="between_nodes=-1"):
        NoiseDistance(-1.0)
    one, two = (Outcome(k, np.zeros(k), np.zeros(0)) for k in (1, 2))
    with pytest.raises(ModelError, match="noises of different numbers"):
        NoiseDistance()([one, two])
