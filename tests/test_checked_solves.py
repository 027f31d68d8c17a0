"""A solver that says what is not so is found out, and the program solved by other means."""

from __future__ import annotations

from types import SimpleNamespace

import highspy
import numpy as np
import pytest
import scipy.sparse as sp

from sddp.highs import Status
from sddp.lp import Arrays, LinearProgram, Scaling, fitted_scaling
from tests.oracles import solve_lp

MEANS = ("refactorized", "cold", "rescaled", "primal simplex", "presolve", "interior point")


class Liar:
    """A HiGHS object whose first `times` runs are followed by lies of one kind."""

    def __init__(self, honest, lie: str, times: int) -> None:
        self._honest, self._lie, self._left = honest, lie, times + 1

    def __getattr__(self, name):
        return getattr(self._honest, name)

    def run(self):
        self._left -= 1
        return self._honest.run()

    def getSolution(self):
        said = self._honest.getSolution()
        primal, duals = np.array(said.col_value), np.array(said.row_dual)
        if self._left > 0 and self._lie == "primal":
            primal[0] += 1e-3
        if self._left > 0 and self._lie == "dual":
            duals[0] += 1e-3
        if self._left > 0 and self._lie == "not a number":
            primal[0] = np.nan
        return SimpleNamespace(col_value=primal.tolist(), row_dual=duals.tolist())

    def getModelStatus(self):
        statuses = highspy.HighsModelStatus
        claims = {"infeasible": statuses.kInfeasible, "unbounded": statuses.kUnbounded,
                  "unknown": statuses.kUnknown}  # fmt: skip
        if self._left > 0 and self._lie in claims:
            return claims[self._lie]
        return self._honest.getModelStatus()


def program(seed: int) -> tuple[LinearProgram, float]:
    """A bounded feasible program with equalities, and its value by scipy."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(4, 7))
    middle, width = matrix @ np.full(7, 0.5), np.array([0.0, 0.3, 0.0, 0.5])
    sides = (middle - width, middle + width, np.zeros(7), np.full(7, 1.5))
    arrays = Arrays(rng.normal(size=7), sp.csr_array(matrix), *sides)
    return LinearProgram(arrays), solve_lp(arrays.cost, arrays.matrix, *sides, 0.0)[0]


LIES = ("primal", "not a number", "infeasible", "unbounded", "unknown")


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("means", MEANS)
def test_each_means_is_reached_and_gives_the_value(lie, means, monkeypatch):
    lp, value = program(3)
    lies = MEANS.index(means) + 1
    if means != "rescaled":  # that one asks a solver of its own
        monkeypatch.setattr(LinearProgram, "_rescaled", lambda self: None)
        lies -= means in MEANS[3:]
    lp._highs = Liar(lp._highs, lie, lies)
    assert lp.solve() is Status.OPTIMAL
    assert lp.objective() == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert lp.effort.retries == {means: 1}
    assert lp.solve() is Status.OPTIMAL
    assert lp.effort.retries == {means: 1}


@pytest.mark.parametrize("lie", LIES[:2])
def test_where_all_means_fail_the_solve_failed(lie, monkeypatch):
    monkeypatch.setattr(LinearProgram, "_rescaled", lambda self: None)
    lp, _ = program(4)
    lp._highs = Liar(lp._highs, lie, 100)
    assert lp.solve() is Status.FAILED
    assert "Optimal, but wrong by" in lp.status_text()
    assert not lp.is_solved


def test_wrong_multipliers_are_found_again_from_the_basis():
    for seed in range(5):
        lp, value = program(seed)
        lp._highs = Liar(lp._highs, "dual", 1)
        assert lp.solve() is Status.OPTIMAL
        assert lp.dual_value() == pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("state", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("money", [1e-3, 1.0, 1e11])
def test_programs_in_odd_units_have_the_value_of_those_in_good_ones(state, money):
    """Rows in units of their own too; the value moves with the unit of money."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        n, m = 6, 4
        matrix, cost = rng.normal(size=(m, n)), rng.normal(size=n)
        middle = matrix @ np.full(n, 0.5)
        lower, upper = middle - 0.2, middle + 0.2
        value = solve_lp(cost, matrix, lower, upper, np.zeros(n), np.ones(n), 0.0)[0]
        columns = state ** rng.integers(0, 2, n)
        rows = 10.0 ** rng.integers(-5, 6, m)
        odd = Arrays(
            cost * money / columns,
            sp.csr_array(rows[:, None] * matrix / columns),
            rows * lower,
            rows * upper,
            np.zeros(n),
            columns,
        )
        lp = LinearProgram(odd, fitted_scaling(odd))
        assert lp.solve() is Status.OPTIMAL
        assert lp.objective() / money == pytest.approx(value, rel=1e-8, abs=1e-8)
        assert lp.dual_value() / money == pytest.approx(value, rel=1e-8, abs=1e-8)


def test_units_are_powers_of_two():
    arrays = Arrays(
        np.array([3.0e7, 0.2]), sp.csr_array([[1e-6, 5.0]]), np.array([3.0]), np.array([np.inf]),
        np.zeros(2), np.full(2, np.inf),
    )  # fmt: skip
    scaling = fitted_scaling(arrays)
    for units in (scaling.columns, scaling.rows, np.array([scaling.money])):
        assert (np.frexp(units)[0] == 0.5).all()
    assert isinstance(Scaling.uniform(arrays, 0.5).finer(0.5), Scaling)


def test_pivots_of_a_program_without_columns_are_none():
    none = np.zeros(0)
    lp = LinearProgram(Arrays(none, sp.csr_array((1, 0)), -np.ones(1), np.ones(1), none, none))
    for _ in range(5):
        assert lp.solve() is Status.OPTIMAL
    assert lp.effort.pivots == 0


def test_a_coefficient_that_highs_drops_is_missed_by_the_check():
    """1e-13 times 1e13 is 1: HiGHS leaves the entry out; in fitted units it does not."""
    arrays = Arrays(
        np.array([1e-13]), sp.csr_array([[1e-13]]), np.ones(1), np.full(1, np.inf),
        np.zeros(1), np.full(1, 1e14),
    )  # fmt: skip
    lp = LinearProgram(arrays)
    assert lp.solve() is Status.OPTIMAL
    assert lp.effort.retries == {"rescaled": 1}
    assert lp.primal()[0] == pytest.approx(1e13)
