"""Distributionally robust measures: published values, other solvers, and a trained policy."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest
from scipy.optimize import linprog, minimize, minimize_scalar

import sddp
from sddp.errors import ModelError
from sddp.risk import CVaR, Expectation
from sddp.robust_risk import ModifiedChiSquared, Wasserstein
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
