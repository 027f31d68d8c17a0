"""What a cut is about: the mean over the noise, or one realization; and exact last stages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.errors import ModelError
from tests.engine.cases import stagewise
from tests.engine.support import SOLVER, train


def problem(*cuts: sddp.InitialCut) -> sddp.Problem:
    """``x`` from 1 to 5 is free, then costs ``w x`` with w = 1 or 3."""

    def build(node):
        m = pyo.ConcreteModel()
        m.i, m.x = pyo.Var(), pyo.Var(bounds=(1, 5))
        m.w = pyo.Param(initialize=0.0, mutable=True)
        if node.stage == 0:
            m.o = pyo.Objective(expr=0 * m.x)
            return sddp.Stage(m, {"x": sddp.State(m.i, m.x, 1.0)})
        m.y = pyo.Var(domain=pyo.NonNegativeReals)
        m.c = pyo.Constraint(expr=m.y >= m.w * m.i)
        m.o = pyo.Objective(expr=m.y)
        noise = sddp.Noise([{"w": 1.0}, {"w": 3.0}])
        return sddp.Stage(m, {"x": sddp.State(m.i)}, noise, initial_cuts=cuts)

    return sddp.Problem(sddp.linear_graph(2), build)


MEAN, DRY, WET = (
    sddp.InitialCut([s], 0.0, noise) for s, noise in ((2.0, None), (1.0, 0), (3.0, 1))
)
EACH = sddp.InitialCut([1.0], 0.0, "each")


@pytest.mark.parametrize("cuts", [(MEAN,), (EACH,), (MEAN, EACH), (DRY, WET), (DRY,), (WET, EACH)])
def test_cuts_that_fit_leave_the_expectation_right(cuts):
    assert train(problem(*cuts), 6).bound == pytest.approx(2.0, rel=SOLVER)


@pytest.mark.parametrize("cuts", [(EACH,), (DRY, WET), (DRY,), (WET, EACH)])
def test_cuts_of_realizations_leave_a_risk_measure_right(cuts):
    """By hand: the worst 0.9 of (1/2, 1/2) are 0.5 of 3 and 0.4 of 1, 1.9 / 0.9 in the mean."""
    made = problem(*cuts)
    assert sddp.extensive_form(made, risk=sddp.AVaR(0.9)).solve().value == pytest.approx(1.9 / 0.9)
    result = train(made, 6, risk=sddp.AVaR(0.9))
    assert result.bound == pytest.approx(1.9 / 0.9, rel=SOLVER)
    again = train(made, 2, start=result.policy)
    assert again.bound == pytest.approx(1.9 / 0.9, rel=SOLVER)


def test_both_realizations_bound_the_cost_to_go_from_the_beginning():
    result = train(problem(DRY, WET), 1, risk=sddp.WorstCase())
    assert result.log["bound"].iloc[0] == pytest.approx(3.0, rel=SOLVER)


def test_a_bound_on_the_mean_is_rejected_under_a_risk_measure():
    words = r"InitialCut\(\.\.\., noise=None\) bounds the mean .* a risk measure .*noise='each'"
    with pytest.raises(ModelError, match=words):
        train(problem(MEAN), 6, risk=sddp.AVaR(0.9))
    with pytest.raises(ModelError, match=words):
        train(problem(EACH, MEAN), 6, risk={0: sddp.AVaR(0.9)})
    assert train(problem(MEAN), 6, risk={1: sddp.AVaR(0.9)}).bound == pytest.approx(2.0)


def test_a_mean_beside_a_realization_is_rejected():
    with pytest.raises(ModelError, match="others of its cuts are about single realizations"):
        train(problem(MEAN, DRY), 6)


@pytest.mark.parametrize("noise", [2, -1, "all", True, 0.5])
def test_a_noise_that_is_none_is_rejected(noise):
    with pytest.raises(ModelError, match=r"node 1: InitialCut\(\.\.\., noise=.*\): must be "):
        train(problem(sddp.InitialCut([1.0], 0.0, noise)), 1)


# ---------------------------------------------------------------- other uses


def test_risk_over_means_is_rejected_with_the_remedy():
    """A policy trained by the expectation knows means over the noise of later decisions."""
    policy = train(stagewise.a11(), 40).policy
    stage = replace(stagewise.hydro_stage(0), noise=None)
    state = {"v": 100.0}
    neutral = policy.decide_before(stage, [(1, 1.0)], state)
    assert neutral.value > 0.0
    with pytest.raises(ModelError, match=r"the cuts of node 1 bound the mean .* leave risk out"):
        policy.decide_before(stage, [(1, 1.0)], state, risk=sddp.WorstCase())


# ---------------------------------------------------------------- exact last stages


@pytest.mark.parametrize("cut", [(1.0, 1.0), (0.0, 0.0), (2.0, 0.0)])
@pytest.mark.parametrize("risk", [None, sddp.AVaR(0.5)], ids=["neutral", "tail"])
def test_an_exact_last_stage_is_its_own_cut(cut, risk):
    """``x + 1 <= 2 x`` touches the value at x = 1: the exact cut is no better there."""

    def build(node):
        m = pyo.ConcreteModel()
        m.i, m.x = pyo.Var(), pyo.Var(bounds=(1, 5))
        if node.stage == 0:
            m.o = pyo.Objective(expr=-1.5 * m.x)
            return sddp.Stage(m, {"x": sddp.State(m.i, m.x, 1.0)})
        m.o = pyo.Objective(expr=2 * m.i)
        initial = [sddp.InitialCut([cut[0]], cut[1])]
        return sddp.Stage(m, {"x": sddp.State(m.i)}, initial_cuts=initial)

    made = sddp.Problem(sddp.linear_graph(2), build)
    assert sddp.extensive_form(made, risk=risk).solve().value == pytest.approx(0.5)
    result = train(made, 3, risk=risk)
    assert result.bound == pytest.approx(0.5, rel=SOLVER)
    assert train(made, 1, start=result.policy).bound == pytest.approx(0.5, rel=SOLVER)
    assert np.isfinite(result.log["bound"]).all()
