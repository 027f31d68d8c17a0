"""A training in parts: what interrupts it changes no number."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.engine.training.checkpoints import FILE, Checkpoints
from sddp.engine.training.stopping import PolicyStability, Progress, StoppingRule
from sddp.errors import DataError, ModelError

LIMIT = sddp.Iterations(14)


def reservoir(inflows: tuple[float, ...] = (0.0, 20.0, 50.0, 100.0)) -> sddp.Problem:
    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.inflow = pyo.Param(initialize=0.0, mutable=True)
        m.level_in, m.level_out = pyo.Var(), pyo.Var(bounds=(0, 200))
        m.thermal, m.hydro, m.spill = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(3))
        m.balance = pyo.Constraint(expr=m.level_out == m.level_in - m.hydro - m.spill + m.inflow)
        m.demand = pyo.Constraint(expr=m.hydro + m.thermal == 150)
        m.cost = pyo.Objective(expr=(50 + 20 * (node.stage % 3)) * m.thermal)
        noise = sddp.Noise([{"inflow": w} for w in inflows])
        return sddp.Stage(
            m, {"level": sddp.State(m.level_in, m.level_out, initial=200.0)}, noise=noise
        )

    return sddp.Problem(sddp.linear_graph(8), build)


PROBLEM = reservoir()


@dataclass(frozen=True)
class StopsAt(StoppingRule):
    """Another rule, and a Ctrl-C at an iteration."""

    rule: StoppingRule
    iteration: int
    seen: list[int] = field(default_factory=list, compare=False)

    def reason(self, progress: Progress) -> str | None:
        self.seen.append(len(progress.log))
        if len(progress.log) == self.iteration:
            raise KeyboardInterrupt
        return self.rule.reason(progress)


def trained(folder, stopping=LIMIT, *, every=5, rng=1, problem=PROBLEM, **settings):
    checkpoints = Checkpoints(folder, every)
    return checkpoints.train(problem, rng=rng, stopping=stopping, progress=False, **settings)


def same(one: sddp.TrainingResult, other: sddp.TrainingResult) -> None:
    for result in (one, other):
        assert result.log.index.tolist() == list(range(1, len(result.log) + 1))
        assert (np.diff(result.log["seconds"]) > 0.0).all()
    columns = [name for name in one.log if name != "seconds"]
    assert one.log[columns].equals(other.log[columns])
    assert one.bound == other.bound
    assert one.stopped_because == other.stopped_because
    for level in (0.0, 70.0, 200.0):
        first, second = (
            result.policy.decide(5, {"level": level}, {"inflow": 20.0}) for result in (one, other)
        )
        assert first.variables == second.variables
        assert first.value == second.value


@pytest.fixture(scope="module")
def undisturbed():
    return trained(None)


def test_a_training_of_one_part_is_that_of_train(tmp_path):
    plain = sddp.train(PROBLEM, rng=1, stopping=LIMIT, progress=False)
    same(trained(tmp_path, every=14), plain)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stops", [(3,), (7,), (6, 12), (6, 7, 11, 14)])
def test_an_interrupted_training_goes_on_to_the_same_numbers(stops, undisturbed, tmp_path):
    """Iterations of a part that is over are not repeated."""
    for at in stops:
        rule = StopsAt(LIMIT, at)
        found = trained(tmp_path, rule)
        assert found.stopped_because == "interrupted"
        assert len(found.log) == at
    rule = StopsAt(LIMIT, 1_000)
    same(trained(tmp_path, rule), undisturbed)
    done = 5 * ((max(stops) - 1) // 5)
    assert rule.seen == list(range(done + 1, 15))


def test_parts_keep_the_measure_of_risk_and_the_form_of_cuts(tmp_path):
    settings = {"risk": sddp.CVaR(0.7), "root_risk": sddp.CVaR(0.7), "cuts": sddp.MultiCut()}
    whole = trained(None, **settings)
    assert trained(tmp_path, StopsAt(LIMIT, 8), **settings).stopped_because == "interrupted"
    same(trained(tmp_path, **settings), whole)
    value = sddp.extensive_form(reservoir((0.0, 100.0)), risk=sddp.CVaR(0.7)).solve().value
    long = trained(
        None, sddp.BoundStalling(10, 1e-9), every=20, problem=reservoir((0.0, 100.0)), **settings
    )
    # The root's measure is over what is seen before the first decision.
    exact = sddp.extensive_form(
        reservoir((0.0, 100.0)), risk=sddp.CVaR(0.7), root_risk=sddp.CVaR(0.7)
    )
    assert long.bound == pytest.approx(exact.solve().value, rel=1e-8)
    assert long.bound > value


def test_every_iteration_is_told_once_by_its_number(tmp_path):
    told: list[int] = []
    trained(tmp_path, StopsAt(LIMIT, 8), on_iteration=lambda entry: told.append(entry.iteration))
    assert told == list(range(1, 9))
    trained(tmp_path, on_iteration=lambda entry: told.append(entry.iteration))
    assert told[8:] == list(range(6, 15))


def test_what_a_rule_remembers_is_kept(tmp_path):
    """Compared are paths of two parts."""
    rule = PolicyStability(n_paths=5, period=4, tolerance=1e-9)
    whole = trained(None, rule | sddp.Iterations(60))
    assert whole.stopped_because == "policy stable"
    assert trained(tmp_path, StopsAt(rule | LIMIT, 7)).stopped_because == "interrupted"
    same(trained(tmp_path, rule | sddp.Iterations(60)), whole)


def test_other_random_numbers_and_other_problems_are_rejected(tmp_path):
    trained(tmp_path, StopsAt(LIMIT, 7))
    with pytest.raises(DataError, match=r"with other random numbers; give the same rng, or remove"):
        trained(tmp_path, rng=2)
    with pytest.raises(DataError, match=r"remove the file to train from the beginning"):
        trained(tmp_path, problem=reservoir((0.0, 30.0)))
    content = json.loads((tmp_path / FILE).read_text())
    content["extra"] = {}
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"damaged: .*remove the file to train"):
        trained(tmp_path)


def test_the_file_can_be_forgotten_and_must_be_writable(tmp_path):
    trained(tmp_path, StopsAt(LIMIT, 7))
    Checkpoints(tmp_path).forget()
    Checkpoints(tmp_path).forget()
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written: .*; choose another folder"):
        trained(tmp_path / "file")
    with pytest.raises(ModelError, match="every=0: must be a positive integer"):
        Checkpoints(tmp_path, 0)
