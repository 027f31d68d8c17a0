"""Policy files: nothing is lost, nothing foreign is read, nothing is left half-written."""

from __future__ import annotations

import copy
import datetime
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.engine.policy import files as storage
from sddp.errors import PolicyFileError
from tests.engine.cases import markov, reservoir, stagewise
from tests.engine.instances import random_instance
from tests.engine.support import BY_NAME, CUT_FORMS, SOLVER, train
from tests.engine.test_generated_rows import TANGENTS, Circle, circle_stage
from tests.engine.test_recourse import tank

TAIL = 0.25 * sddp.Expectation() + 0.75 * (0.5 * sddp.AVaR(0.3) + 0.5 * sddp.WorstCase())

# Written to a file and run by a new Python: prints every bit of many decisions.
ASK = """
import sys
import numpy as np
import sddp
from tests.engine.test_storage import POLICIES, answers
for name, path in zip(sys.argv[1::2], sys.argv[2::2]):
    for problem in (POLICIES[name][0](), None):
        print(*answers(sddp.load_policy(path, problem), POLICIES[name][2]))
"""


def instance():
    """Both kinds of noise, two scalar states, regimes."""
    return random_instance(3, graph="markov", transition="sparse", indexed=False)


POLICIES = {
    "c2": (markov.c2, {"risk": TAIL}, [((0, 0), {"r": [200.0, 180.0]}, 0)]),
    "c9": (
        reservoir.c9,
        {"risk": {1: sddp.CVaR(0.4), 2: sddp.Entropic(0.01)}, "root_risk": sddp.AVaR(0.5)},
        [(t, {"x": x}, w) for t in range(4) for x in (7.0, 11.5) for w in range(3)],
    ),
    "tank": (lambda: tank(0.1), {}, [(0, {"x": 0.0}, 0), (1, {"x": 8.4}, 1)]),
    "loop": (reservoir.d3, {}, [("node", {"x": x}, 2) for x in (5.0, 9.0, 15.0)]),
    "instance": (
        lambda: instance().problem(),
        {},
        [(name, {"s0": 1.0, "s1": 2.5}, 1) for name in "abcd"],
    ),
}


def answers(policy: sddp.Policy, questions: list) -> list[str]:
    """Every number of some decisions and the bound, as hexadecimal floats."""
    decisions = [policy.decide(*question) for question in questions]
    numbers = [policy.bound]
    for decision in decisions:
        numbers += [*decision.variables.values(), decision.value, *decision.slope.tolist()]
    return [float(number).hex() for number in numbers]


def saved(name: str, path: Path, cuts: object = None) -> sddp.Policy:
    """Policy of one of `POLICIES`, trained, and written to a path."""
    build, options, _ = POLICIES[name]
    policy = train(build(), 15, cuts=cuts, **options).policy
    policy.save(path)
    return policy


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("name", POLICIES)
def test_a_loaded_policy_answers_bit_for_bit(name, cuts, tmp_path):
    policy = saved(name, tmp_path / "policy.json", cuts)
    build, _, questions = POLICIES[name]
    expected = answers(policy, questions)
    table = policy.simulate(3, rng=np.random.default_rng(0))
    for problem in (None, build()):
        loaded = sddp.load_policy(tmp_path / "policy.json", problem)
        assert answers(loaded, questions) == expected
        assert loaded.simulate(3, rng=np.random.default_rng(0)).equals(table)


@pytest.mark.long
def test_a_new_process_answers_bit_for_bit(tmp_path):
    script = tmp_path / "ask.py"
    script.write_text(ASK)
    root = str(Path(__file__).parents[2])
    paths = [p for p in (os.environ.get("PYTHONPATH"), root) if p]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    names = ("c9", "instance")
    policies = [saved(name, tmp_path / name) for name in names]
    arguments = [part for name in names for part in (name, str(tmp_path / name))]
    printed = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert printed.returncode == 0, printed.stderr
    lines = printed.stdout.splitlines()
    for name, policy, pair in zip(names, policies, (lines[:2], lines[2:]), strict=True):
        expected = answers(policy, POLICIES[name][2])
        assert [line.split() for line in pair] == [expected, expected]


@pytest.mark.long
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_training_goes_on_from_a_file(cuts, tmp_path):
    risk = {"risk": TAIL}
    problem = markov.c2()
    train(problem, 3, cuts=cuts, **risk).policy.save(tmp_path / "policy.json")
    loaded = sddp.load_policy(tmp_path / "policy.json")
    exact = sddp.extensive_form(problem, **risk).solve().value
    for known in (problem, loaded.problem):
        assert train(known, 60, start=loaded).bound == pytest.approx(exact, rel=SOLVER)


def test_a_file_survives_a_second_saving(tmp_path):
    first = saved("c9", tmp_path / "a.json")
    assert first.bound > 0.0
    second = sddp.load_policy(tmp_path / "a.json")
    second.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    second.save(tmp_path / "a.json")  # over an existing file
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


# ---------------------------------------------------------------- refused


def with_stages(change):
    """A11 with another number somewhere."""

    def build(node):
        stage = stagewise.hydro_stage(node.stage)
        return change(stage, node) or stage

    return sddp.Problem(sddp.linear_graph(3), build, cost_to_go_bound=0.0)


def other_cost(stage, node):
    if node.stage == 0:
        stage.model.cost.expr = stage.model.cost.expr + 0.5 * stage.model.g


def other_bound(stage, node):
    stage.model.v.setub(199.0)


def other_side(stage, node):
    stage.model.demand.set_value(stage.model.h + stage.model.g == 151)


def other_noise(stage, node):
    return stagewise.hydro_stage(node.stage, {0.0: 1 / 3, 50.0: 1 / 3, 101.0: 1 / 3})


def other_probability(stage, node):
    return stagewise.hydro_stage(node.stage, {0.0: 0.3, 50.0: 0.3, 100.0: 0.4})


def other_initial(stage, node):
    states = {"v": sddp.State(stage.model.v_in, stage.model.v, initial=199.0)}
    return sddp.Stage(stage.model, states, noise=stage.noise)


def other_name(stage, node):
    states = {"w": sddp.State(stage.model.v_in, stage.model.v, initial=200.0)}
    return sddp.Stage(stage.model, states, noise=stage.noise)


def other_transition(stage, node):
    transition = sddp.LinearTransition(scale=[[0.99]])
    return sddp.Stage(stage.model, stage.states, noise=stage.noise, transition=transition)


CHANGES = (
    other_cost,
    other_bound,
    other_side,
    other_noise,
    other_probability,
    other_initial,
    other_name,
    other_transition,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_file_of_another_problem_is_rejected(change, tmp_path):
    train(stagewise.a11(), 2).policy.save(tmp_path / "policy.json")
    same = with_stages(lambda stage, node: None)
    assert sddp.load_policy(tmp_path / "policy.json", same).bound > 0.0
    with pytest.raises(PolicyFileError, match="belongs to another problem"):
        sddp.load_policy(tmp_path / "policy.json", with_stages(change))


def test_a_file_of_another_graph_is_rejected(tmp_path):
    stage = reservoir.reservoir_stage()
    policies = []
    for discount in (0.9, 0.8):
        graph = reservoir.discounted_loop(discount)
        policies.append(sddp.Problem(graph, lambda node: stage, cost_to_go_bound=0.0))
    train(policies[0], 2).policy.save(tmp_path / "policy.json")
    with pytest.raises(PolicyFileError, match="belongs to another problem"):
        sddp.load_policy(tmp_path / "policy.json", policies[1])


def edited(path: Path, edit) -> None:
    document = json.loads(path.read_text())
    changed = copy.deepcopy(document)
    edit(changed)
    assert changed != document
    path.write_text(json.dumps(changed))


def test_other_formats_and_versions_are_rejected(tmp_path):
    path = tmp_path / "policy.json"
    saved("c9", path)
    edited(path, lambda document: document.update(version=storage.VERSION + 1))
    with pytest.raises(PolicyFileError, match=f"has version {storage.VERSION + 1}; this package"):
        sddp.load_policy(path, reservoir.c9())
    edited(path, lambda document: document.update(format="something"))
    with pytest.raises(PolicyFileError, match="is no sddp-policy file"):
        sddp.load_policy(path, reservoir.c9())


def flip(document):
    """One character inside the numbers of an array."""
    array = next(iter(document["arrays"].values()))
    data = array["data"]
    array["data"] = data[:10] + ("A" if data[10] != "A" else "B") + data[11:]


def nodes(document):
    """What was learnt at each node: pairs of name and memory."""
    return document["policy"]["fields"]["nodes"]["map"]


DAMAGES = {
    "flipped": flip,
    "no nodes": lambda document: document.pop("policy"),
    "one node less": lambda document: nodes(document).pop(),
    "no pools": lambda document: nodes(document)[0][1]["fields"].update(pools=[]),
    "rows of another node": lambda document: nodes(document)[0][1]["fields"].update(
        rows=nodes(document)[2][1]["fields"]["rows"]
    ),
    "unknown cut form": lambda document: document["policy"]["fields"]["cuts"].update(
        {"is": "Nothing"}
    ),
    "an array less": lambda document: document["arrays"].popitem(),
    "no bounds": lambda document: document["policy"]["fields"].update(theta_lower={"map": []}),
    "another tolerance": lambda document: document["policy"]["fields"].update(tolerance=0.5),
    "another order": lambda document: document["problem"]["nodes"].reverse(),
    "another arc": lambda document: document["problem"]["arcs"][1].__setitem__(2, 0.5),
}


@pytest.mark.parametrize("resealed", [False, True])
@pytest.mark.parametrize(
    "damage", ["no nodes", "one node less", "unknown cut form", "an array less"]
)
def test_a_file_with_parts_missing_is_rejected_though_its_checksum_fits(damage, resealed, tmp_path):
    path = tmp_path / "policy.json"
    saved("c9", path)
    edited(path, DAMAGES[damage])
    if resealed:
        document = json.loads(path.read_text())
        del document["sha256"]
        path.write_text(json.dumps(document | {"sha256": storage._checksum(document)}))
    with pytest.raises(PolicyFileError, match=r"policy\.json"):
        sddp.load_policy(path)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_rejected(damage, tmp_path):
    """Also where every part can be read by itself: the whole is not what was written."""
    path = tmp_path / "policy.json"
    saved("c9", path)
    edited(path, DAMAGES[damage])
    for problem in (None, reservoir.c9()):
        with pytest.raises(PolicyFileError):
            sddp.load_policy(path, problem)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", b'{"format": 3}'])
def test_a_file_that_is_none_is_rejected(content, tmp_path):
    path = tmp_path / "policy.json"
    path.write_bytes(content)
    with pytest.raises(PolicyFileError, match=r"policy\.json"):
        sddp.load_policy(path, reservoir.c9())


def test_a_truncated_or_missing_file_is_rejected(tmp_path):
    path = tmp_path / "policy.json"
    saved("c9", path)
    path.write_text(path.read_text()[:-100])
    with pytest.raises(PolicyFileError, match="cannot be read as a policy file"):
        sddp.load_policy(path, reservoir.c9())
    with pytest.raises(PolicyFileError, match="cannot be read"):
        sddp.load_policy(tmp_path / "missing.json", reservoir.c9())


def test_a_place_that_cannot_be_written_to_is_rejected_and_left_clean(tmp_path):
    policy = train(reservoir.c9(), 2).policy
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("not a folder")
    places = (tmp_path / "missing" / "p.json", tmp_path / "folder", tmp_path / "file" / "p.json")
    for place in places:
        with pytest.raises(PolicyFileError, match="cannot be written"):
            policy.save(place)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "not a folder"


def test_an_interrupted_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "policy.json"
    saved("c9", path)
    before = path.read_text()

    def fail(source, target):
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PolicyFileError, match="the disk is gone"):
        train(reservoir.c9(), 3).policy.save(path)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["policy.json"]


def test_numbers_of_numpy_in_a_risk_measure_are_numbers(tmp_path):
    for number in (np.float64(0.5), np.float32(0.5), 1):
        policy = train(reservoir.c9(), 3, risk=sddp.CVaR(confidence=number)).policy
        policy.save(tmp_path / "policy.json")
        loaded = sddp.load_policy(tmp_path / "policy.json", reservoir.c9())
        assert loaded.bound == policy.bound


# ---------------------------------------------------------------- classes of the user


@dataclass(frozen=True)
class Half(sddp.risk.RiskMeasure):
    """Half of the mean, half of the worst; `names` is there to be kept."""

    weight: float
    names: tuple[str, ...] = ("a", "b")

    def _adjust_costs(self, p, z):
        worst = sddp.WorstCase()._adjust_costs(p, z)[0]
        return self.weight * p + (1.0 - self.weight) * worst, 0.0

    def tail_mixture(self):
        """See `RiskMeasure`."""
        return ((self.weight, 1.0), (1.0 - self.weight, 0.0))


class Slow(sddp.LazyAggregation):
    """A cut form without data."""


class Described:
    """A row generator that describes itself."""

    pool_key = "described"

    def __init__(self, radius: float, tangents: np.ndarray) -> None:
        self.circle, self.tangents, self.radius = Circle(), tangents, radius

    def arguments(self) -> dict[str, Any]:
        """Of the constructor."""
        return {"radius": self.radius, "tangents": self.tangents}

    def violated(self, values: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """See `RowGenerator`."""
        return self.circle.violated(np.array([*values[:2], self.radius * values[2]]), tolerance)

    def digest(self) -> str:
        """See `RowGenerator`."""
        return f"{self.radius}"


def test_classes_of_the_user_are_named_by_import_path(tmp_path):
    problem = sddp.Problem(
        sddp.linear_graph(3),
        lambda node: replace(circle_stage(lazily=True), rows=Described(1.0, TANGENTS)),
    )
    policy = train(problem, 12, risk=Half(0.5), cuts=Slow()).policy
    path = tmp_path / "policy.json"
    policy.save(path)
    loaded = sddp.load_policy(path)
    assert loaded.checkpoint.risk[0] == Half(0.5)
    assert type(loaded.checkpoint.cuts) is Slow
    rows = loaded.problem.stages[0].rows
    assert (rows.radius, rows.tangents.tolist()) == (1.0, TANGENTS.tolist())
    questions = [(t, {"r": r}, w) for t in range(3) for r in (0.4, 1.7) for w in range(3)]
    assert answers(loaded, questions) == answers(policy, questions)
    named = path.read_text().replace("test_storage:Half", "test_storage:Gone")
    document = json.loads(named)
    del document["sha256"]
    path.write_text(json.dumps(document | {"sha256": storage._checksum(document)}))
    with pytest.raises(PolicyFileError, match=r"no class tests\.engine\.test_storage:Gone"):
        sddp.load_policy(path)


@pytest.mark.parametrize("path", ["os:system", "subprocess:Popen", "builtins:list", "nowhere:x"])
def test_a_file_makes_nothing_but_parts_of_a_policy(path, tmp_path):
    file = tmp_path / "policy.json"
    saved("c9", file)
    document = json.loads(file.read_text())
    document["policy"]["fields"]["root_risk"] = {"class": path, "arguments": {"args": "true"}}
    del document["sha256"]
    file.write_text(json.dumps(document | {"sha256": storage._checksum(document)}))
    with pytest.raises(PolicyFileError, match="cannot be opened"):
        sddp.load_policy(file)


def test_what_a_file_cannot_hold_is_rejected_with_the_remedy(tmp_path):
    class Mine(sddp.Expectation):
        pass

    @dataclass(frozen=True)
    class Labels:
        numbers: tuple[object, ...]

    path = tmp_path / "policy.json"
    with pytest.raises(PolicyFileError, match=r"risk.*move the class out of its function"):
        train(reservoir.c9(), 2, risk=Mine()).policy.save(path)
    with pytest.raises(PolicyFileError, match=r"names.*a file cannot hold a object; make"):
        train(reservoir.c9(), 2, risk=Half(0.5, names=(object(),))).policy.save(path)
    m, name = reservoir.reservoir_stage(), range(3)
    graph = sddp.Graph([name], {("root", name): 1.0})
    problem = sddp.Problem(graph, lambda node: m, cost_to_go_bound=0.0)
    with pytest.raises(PolicyFileError, match=r"node range.*a file cannot hold a range"):
        train(problem, 2).policy.save(path)
    assert list(tmp_path.iterdir()) == []


NUMPY_NAMES = [np.datetime64("2020-01-03"), np.timedelta64(3, "D"), np.timedelta64(2, ("m", 15))]


@pytest.mark.parametrize("name", NUMPY_NAMES)
def test_nodes_named_by_times_of_numpy_are_found_in_a_file(name, tmp_path):
    """A span of days was read back as a number, by which no node was found."""
    graph = sddp.Graph([name, "next"], {("root", name): 1.0, (name, "next"): 1.0})
    stage = reservoir.reservoir_stage()
    problem = sddp.Problem(graph, lambda node: stage, cost_to_go_bound=0.0)
    policy = train(problem, 3).policy
    policy.save(tmp_path / "policy.json")
    loaded = sddp.load_policy(tmp_path / "policy.json")
    assert loaded.nodes == (name, "next")
    assert type(loaded.nodes[0]) is type(name)
    state = dict.fromkeys(problem.labels, 10.0)
    assert loaded.value(name, state) == policy.value(name, state)


@pytest.mark.parametrize("label", ["x y", "L'Oreal", 3, 2.5, ("a", 1), datetime.date(2020, 1, 2)])
def test_labels_of_nodes_and_states_are_kept(label, tmp_path):
    other = ("z", 2) if isinstance(label, tuple) else "z"

    def build(node):
        m = pyo.ConcreteModel()
        m.i, m.x = pyo.Var([label, other]), pyo.Var([label, other], bounds=(0, 9))
        m.keep = pyo.ConstraintList()
        for k in (label, other):
            m.keep.add(m.x[k] >= m.i[k])
        m.o = pyo.Objective(expr=sum(m.x.values()))
        return sddp.Stage(m, {"s": sddp.State(m.i, m.x, initial=1.0)})

    graph = sddp.Graph([label, "next"], {("root", label): 1.0, (label, "next"): 1.0})
    policy = train(sddp.Problem(graph, build), 3).policy
    policy.save(tmp_path / "policy.json")
    loaded = sddp.load_policy(tmp_path / "policy.json")
    assert loaded.nodes == (label, "next")
    decision = loaded.decide(label, {"s": {label: 2.0, other: 1.0}})
    assert decision.outgoing == {"s": {label: 2.0, other: 1.0}}
