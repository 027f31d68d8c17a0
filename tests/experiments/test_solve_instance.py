"""`python -m experiments.solve_instance`, as its users call it.

The optimum of `tiny` and its first holdings are those of `../shared/instances`, see
`tests/allocation/test_instances_exact.py`. What needs no process of its own goes through `main`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.solve_instance import main
from sddp.allocation import training
from tests.allocation.problems import TINY, TINY2, medium_case

REPOSITORY = Path(__file__).resolve().parents[2]
OPTIMUM, FIRST = 1.0064683729632389, [0.034520171310738826, 0.10192094001601792, 0.8616317832267579]
KEYS = [
    "status",
    "bound",
    "first_stage_holdings",
    "iterations",
    "seconds",
    "simulated_mean",
    "simulated_standard_error",
    "log",
]
STATUSES = {"converged", "iteration_limit", "time_limit", "interrupted"}


def _content(case, **changes):
    return {
        "N": case.n_assets,
        "K": case.n_states,
        "S": case.all_returns.shape[2],
        "T": case.n_stages,
        "alpha": case.confidence,
        "gamma": case.limit,
        "tau": case.cost,
        "P": np.asarray(case.transition).tolist(),
        "k0": case.regime,
        "r": np.asarray(case.returns).tolist(),
        "x0": list(case.holdings),
    } | changes


@pytest.fixture
def file(tmp_path):
    """Writes an instance file and returns its path."""

    def write(case=TINY, **changes):
        path = tmp_path / "instance.json"
        path.write_text(json.dumps(_content(case, **changes)))
        return str(path)

    return write


def _command(*arguments):
    return [sys.executable, "-m", "experiments.solve_instance", *arguments]


def _run(*arguments):
    return subprocess.run(
        _command(*arguments),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _answer(capsys, *arguments):
    """The JSON object that `main` prints."""
    assert main(list(arguments)) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


def _check_form(answer):
    assert list(answer) == KEYS
    assert answer["status"] in STATUSES
    for key in ("bound", "seconds"):
        assert isinstance(answer[key], float)
    assert isinstance(answer["iterations"], int)
    assert all(isinstance(amount, float) for amount in answer["first_stage_holdings"])
    assert len(answer["log"]) == answer["iterations"]
    for number, row in enumerate(answer["log"], start=1):
        assert list(row) == ["iteration", "seconds", "bound"]
        assert row["iteration"] == number
        assert isinstance(row["iteration"], int)
        assert isinstance(row["seconds"], float)
        assert isinstance(row["bound"], float)
    if answer["log"]:
        last = answer["log"][-1]["bound"]
        # What an interrupted iteration had learned counts, though it has no row.
        assert answer["bound"] <= last * (1.0 + 1e-9)
        assert answer["status"] == "interrupted" or answer["bound"] == pytest.approx(last, rel=1e-9)
        assert answer["log"][-1]["seconds"] == answer["seconds"]


# --- in a process of its own ---------------------------------------------------------------------


@pytest.mark.long
def test_it_prints_one_json_object(file):
    found = _run(file(), "--simulate", "50", "--seed", "3")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.count("\n") == 1
    answer = json.loads(found.stdout)
    _check_form(answer)
    assert answer["status"] == "converged"
    assert answer["bound"] == pytest.approx(OPTIMUM, rel=1e-9)
    np.testing.assert_allclose(answer["first_stage_holdings"], FIRST, atol=1e-6)
    error = answer["simulated_standard_error"]
    assert 0.0 < error < 0.02
    assert abs(answer["simulated_mean"] - OPTIMUM) <= 4.5 * error


@pytest.mark.long
def test_an_infeasible_instance_says_why_on_standard_error(file):
    """A limit of 0 that all of the first holdings break, whether kept or sold."""
    found = _run(file(TINY2, gamma=0.0))
    assert found.returncode != 0
    assert found.stdout == ""
    assert "InfeasibleProblem: the problem is infeasible" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.long
def test_a_malformed_instance_says_why_on_standard_error(file):
    found = _run(file(gamma="a lot"))
    assert found.returncode != 0
    assert found.stdout == ""
    assert "DataError: gamma = 'a lot': must be a number" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.long
def test_ctrl_c_ends_a_long_run_with_what_was_learned(tmp_path):
    """The file is a pipe, so that the signal is sent only once training must have begun."""
    pipe = tmp_path / "instance.json"
    os.mkfifo(pipe)
    case = medium_case(T=12, S=100, N=10)
    with subprocess.Popen(
        _command(str(pipe), "--iterations", "100000"),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            with pipe.open("w") as writer:  # opens when the other side reads: imports are done
                json.dump(_content(case), writer)
            time.sleep(3.0)  # the problem is built in a tenth of that
            assert process.poll() is None
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, "")
    answer = json.loads(output)
    _check_form(answer)
    assert answer["status"] == "interrupted"
    assert answer["iterations"] >= 1
    assert sum(answer["first_stage_holdings"]) == pytest.approx(1.0, abs=0.01)


# --- through main --------------------------------------------------------------------------------


def test_without_simulation_its_two_numbers_are_null(file, capsys):
    answer = _answer(capsys, file())
    _check_form(answer)
    assert answer["simulated_mean"] is None
    assert answer["simulated_standard_error"] is None
    one = _answer(capsys, file(), "--simulate", "1")
    assert isinstance(one["simulated_mean"], float)
    assert one["simulated_standard_error"] is None


@pytest.mark.parametrize("form", ["lazy", "explicit"])
def test_both_forms_of_the_limit_give_the_optimum(file, capsys, monkeypatch, form):
    used, train = [], training.train_allocation

    def spy(*arguments, **options):
        result = train(*arguments, **options)
        used.append(result.policy.problem.cvar)
        return result

    monkeypatch.setattr(training, "train_allocation", spy)
    answer = _answer(capsys, file(k0=1), "--cvar", form)
    assert used == [form]
    assert answer["status"] == "converged"
    assert answer["bound"] == pytest.approx(1.0078604782622258, rel=1e-9)
    np.testing.assert_allclose(answer["first_stage_holdings"], [0.060625, 0.0, 0.9375], atol=1e-6)


def test_without_limits_the_bound_has_stood_still(file, capsys):
    """Converged: moved by less than 1e-9 of wealth over 10 iterations."""
    log = _answer(capsys, file(TINY2))["log"]
    bounds = [row["bound"] for row in log]
    assert len(bounds) > 10
    assert abs(bounds[-1] - bounds[-11]) <= 1e-9
    assert (np.diff(bounds) <= 1e-9).all()
    assert (np.diff([row["seconds"] for row in log]) >= 0.0).all()


def test_iterations_and_seconds_end_training(file, capsys):
    case = medium_case()
    answer = _answer(capsys, file(case), "--iterations", "3")
    _check_form(answer)
    assert (answer["status"], answer["iterations"]) == ("iteration_limit", 3)
    start = time.perf_counter()
    timed = _answer(capsys, file(case), "--seconds", "0.4", "--iterations", "100000")
    took = time.perf_counter() - start
    assert timed["status"] == "time_limit"
    assert timed["seconds"] >= 0.4
    assert all(row["seconds"] < 0.4 for row in timed["log"][:-1])
    assert timed["seconds"] <= took  # training only: reading and building are not in it
    whichever = _answer(capsys, file(case), "--seconds", "3600", "--iterations", "2")
    assert whichever["status"] == "iteration_limit"


@pytest.mark.long
def test_a_seed_fixes_every_number(file, capsys):
    path = file(medium_case())
    options = [path, "--iterations", "4", "--simulate", "10"]
    one, again, other = (_answer(capsys, *options, "--seed", s) for s in ("5", "5", "6"))
    for answer in (one, again, other):
        del answer["seconds"]
        answer["log"] = [row["bound"] for row in answer["log"]]
    assert one == again
    assert one["log"] != other["log"]
    assert one["simulated_mean"] != other["simulated_mean"]
    default, zero = (_answer(capsys, path, *o, "--iterations", "2") for o in ([], ["--seed", "0"]))
    assert default["bound"] == zero["bound"]


def test_the_seed_reaches_the_simulation_too(file, capsys):
    """Converged policies of all seeds are the same one, so their paths tell."""
    options = [file(), "--simulate", "5", "--seed"]
    means = [_answer(capsys, *options, seed)["simulated_mean"] for seed in ("1", "2", "3")]
    assert len(set(means)) == 3


def test_more_simulated_paths_do_not_move_training(file, capsys):
    path = file(medium_case())
    few = _answer(capsys, path, "--iterations", "4", "--simulate", "2")
    many = _answer(capsys, path, "--iterations", "4", "--simulate", "5")
    assert few["bound"] == many["bound"]
    assert few["first_stage_holdings"] == many["first_stage_holdings"]


def test_a_limit_below_the_cost_is_solved_in_silence(file, capsys):
    """1.0153325538139226: `../shared/instances/README.md`; the instance chose its limit."""
    answer = _answer(capsys, file(TINY2, k0=0, gamma=0.004, x0=[1.0, 0.0, 0.0]))
    assert answer["bound"] == pytest.approx(1.0153325538139226, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"P": [[0.8, 0.1], [0.4, 0.6]]}, "DataError: transition_matrix[0, 0] sums to"),
        ({"k0": 7}, "regime 7 is outside 0..1"),
        ({"alpha": 1.5}, "cvar_confidence = 1.5"),
        ({"tau": -0.1}, "transaction_cost = -0.1"),
        ({"tau": float("nan")}, "nan"),
        ({"x0": [0.0, 0.0, 0.0]}, "holdings are all 0"),
        ({"x0": [2.0, -1.0, 0.0]}, "holdings of 'asset1' are -1.0"),
        ({"x0": [float("nan"), 0.0, 0.0]}, "nan"),
        ({"x0": [1.0]}, "x0 has shape (1,)"),
    ],
    ids=str,
)
def test_whatever_is_wrong_with_an_instance_ends_in_words(file, capsys, change, words):
    assert main([file(**change)]) != 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert main([file()]) == 0  # and the next call works


def test_a_missing_and_an_empty_file_end_in_words(tmp_path, capsys):
    empty = tmp_path / "empty.json"
    empty.touch()
    for path in (tmp_path / "none.json", empty):
        assert main([str(path)]) != 0
        printed = capsys.readouterr()
        assert printed.out == ""
        assert f"{path} cannot be read as JSON" in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--iterations", "0"],
        ["--iterations", "-1"],
        ["--iterations", "many"],
        ["--simulate", "-1"],
        ["--seconds", "soon"],
        ["--seconds", "nan"],
        ["--seed", "-1"],
        ["--cvar", "fast"],
        ["--unknown"],
    ],
    ids=" ".join,
)
def test_arguments_that_make_no_sense_are_rejected(file, capsys, arguments):
    path = [] if not arguments else [file()]
    try:
        code = main([*path, *arguments])
    except SystemExit as stop:  # argparse leaves this way, with its usage
        code = stop.code
    assert code not in (0, None)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err != ""
