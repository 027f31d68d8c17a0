"""Policy files: nothing is lost, nothing foreign is read, nothing is left half-written."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sddp
from sddp.engine import storage
from sddp.errors import PolicyFileError
from tests.engine.cases import markov, reservoir, stagewise
from tests.engine.instances import random_instance
from tests.engine.support import BY_NAME, CUT_FORMS, SOLVER, train
from tests.engine.test_recourse import tank

TAIL = 0.25 * sddp.Expectation() + 0.75 * (0.5 * sddp.AVaR(0.3) + 0.5 * sddp.WorstCase())

# Written to a file and run by a new Python: prints every bit of many decisions.
ASK = """
import sys
import numpy as np
import sddp
from tests.engine.test_storage import POLICIES, answers
for name, path in zip(sys.argv[1::2], sys.argv[2::2]):
    policy = sddp.load_policy(path, POLICIES[name][0]())
    print(*answers(policy, POLICIES[name][2]))
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
    loaded = sddp.load_policy(tmp_path / "policy.json", build())
    assert answers(loaded, questions) == answers(policy, questions)
    tables = [p.simulate(3, rng=np.random.default_rng(0)) for p in (policy, loaded)]
    assert tables[0].equals(tables[1])


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
    for name, policy, line in zip(names, policies, printed.stdout.splitlines(), strict=True):
        assert line.split() == answers(policy, POLICIES[name][2])


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_training_goes_on_from_a_file(cuts, tmp_path):
    risk = {"risk": TAIL}
    problem = markov.c2()
    train(problem, 3, cuts=cuts, **risk).policy.save(tmp_path / "policy.json")
    loaded = sddp.load_policy(tmp_path / "policy.json", problem)
    exact = sddp.extensive_form(problem, **risk).solve().value
    assert train(problem, 60, start=loaded).bound == pytest.approx(exact, rel=SOLVER)


def test_a_file_survives_a_second_saving(tmp_path):
    first = saved("c9", tmp_path / "a.json")
    second = sddp.load_policy(tmp_path / "a.json", first.problem)
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
def test_a_file_of_another_problem_is_refused(change, tmp_path):
    train(stagewise.a11(), 2).policy.save(tmp_path / "policy.json")
    same = with_stages(lambda stage, node: None)
    assert sddp.load_policy(tmp_path / "policy.json", same).bound > 0.0
    with pytest.raises(PolicyFileError, match="belongs to another problem"):
        sddp.load_policy(tmp_path / "policy.json", with_stages(change))


def test_a_file_of_another_graph_is_refused(tmp_path):
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


def test_other_formats_and_versions_are_refused(tmp_path):
    path = tmp_path / "policy.json"
    saved("c9", path)
    edited(path, lambda document: document.update(version=storage.VERSION + 1))
    with pytest.raises(PolicyFileError, match=f"has version {storage.VERSION + 1}; this package"):
        sddp.load_policy(path, reservoir.c9())
    edited(path, lambda document: document.update(format="something"))
    with pytest.raises(PolicyFileError, match="is no sddp-policy file"):
        sddp.load_policy(path, reservoir.c9())


def flip(document):
    """One character inside the numbers of a cut."""
    array = document["nodes"][1]["pools"][0][0]
    data = array["data"]
    array["data"] = data[:10] + ("A" if data[10] != "A" else "B") + data[11:]


DAMAGES = {
    "flipped": flip,
    "no nodes": lambda document: document.pop("nodes"),
    "one node less": lambda document: document["nodes"].pop(),
    "no pools": lambda document: document["nodes"][0].update(pools=[]),
    "rows of another node": lambda document: document["nodes"][0].update(
        rows=document["nodes"][2]["rows"]
    ),
    "pools of another node": lambda document: document["nodes"][1].update(
        pools=document["nodes"][2]["pools"]
    ),
    "reference of another node": lambda document: document["nodes"][0].update(
        reference=document["nodes"][3]["reference"]
    ),
    "unknown cut form": lambda document: document.update(cuts="Nothing"),
    "unknown risk": lambda document: document["risk"][0].update(name="Nothing"),
    "unknown node": lambda document: document["theta_lower"][0].__setitem__(0, 99),
    "no bounds": lambda document: document.update(theta_lower=[]),
    "another tolerance": lambda document: document.update(tolerance=0.5),
    "another root risk": lambda document: document["root_risk"].update(tail=0.25),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(damage, tmp_path):
    """Also where every part can be read by itself: the whole is not what was written."""
    path = tmp_path / "policy.json"
    saved("c9", path)
    edited(path, DAMAGES[damage])
    with pytest.raises(PolicyFileError):
        sddp.load_policy(path, reservoir.c9())


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", b'{"format": 3}'])
def test_a_file_that_is_none_is_refused(content, tmp_path):
    path = tmp_path / "policy.json"
    path.write_bytes(content)
    with pytest.raises(PolicyFileError, match=r"policy\.json"):
        sddp.load_policy(path, reservoir.c9())


def test_a_truncated_or_missing_file_is_refused(tmp_path):
    path = tmp_path / "policy.json"
    saved("c9", path)
    path.write_text(path.read_text()[:-100])
    with pytest.raises(PolicyFileError, match="cannot be read as a policy file"):
        sddp.load_policy(path, reservoir.c9())
    with pytest.raises(PolicyFileError, match="cannot be read"):
        sddp.load_policy(tmp_path / "missing.json", reservoir.c9())


def test_a_place_that_cannot_be_written_to_is_refused_and_left_clean(tmp_path):
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


def test_a_risk_measure_of_the_users_own_cannot_be_named_in_a_file(tmp_path):
    class Mine(sddp.Expectation):
        pass

    policy = train(reservoir.c9(), 2, risk=Mine()).policy
    with pytest.raises(PolicyFileError, match="is not one of sddp"):
        policy.save(tmp_path / "policy.json")
    assert list(tmp_path.iterdir()) == []
