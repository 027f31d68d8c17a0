"""Instance files: what is read, and what is refused with words.

The format is stated in `sddp.allocation.instances` and in the collection's README.
"""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from sddp.allocation.instances import instance_from, read_instance
from sddp.allocation.model import AllocationModel
from sddp.errors import DataError, SddpError

NAN, INF = float("nan"), float("inf")
HUGE = 10**400  # a JSON integer that no float holds
# `tiny` of ../shared/instances, as its file states it.
CONTENT = {
    "name": "tiny",
    "N": 2,
    "K": 2,
    "S": 3,
    "T": 2,
    "alpha": 0.9,
    "gamma": 0.03,
    "tau": 0.002,
    "k0": 0,
    "P": [[0.8, 0.2], [0.4, 0.6]],
    "r": [
        [[0.06, 0.02], [-0.03, 0.01], [0.01, -0.02]],
        [[-0.08, -0.03], [0.03, 0.04], [-0.02, 0.01]],
    ],
    "x0": [1.0, 0.0, 0.0],
}


def _short(value):
    return str(value)[:15]


def _returns_with(entry):
    returns = copy.deepcopy(CONTENT["r"])
    returns[0][0][0] = entry
    return returns


def test_a_file_is_read_as_it_stands(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps({**CONTENT, "k0": 1, "x0": [0.5, 0.25, 0.25]}))
    for source in (path, str(path)):
        instance = read_instance(source)
        assert instance.model == AllocationModel(
            transaction_cost=0.002, cvar_confidence=0.9, cvar_limit=0.03
        )
        scenarios = instance.scenarios
        assert (scenarios.n_stages, scenarios.n_states) == (2, 2)
        np.testing.assert_array_equal(scenarios.returns, [CONTENT["r"]] * 2)
        np.testing.assert_array_equal(scenarios.transition_matrix, [CONTENT["P"]] * 2)
        np.testing.assert_allclose(scenarios.probabilities, 1.0 / 3.0)
        assert instance.initial_regime == 1
        assert instance.initial_holdings == {"cash": 0.5, "asset1": 0.25, "asset2": 0.25}


def test_integers_are_numbers_and_further_keys_are_ignored():
    instance = instance_from({**CONTENT, "gamma": 1, "tau": 0, "x0": [1, 0, 0], "source": "me"})
    assert instance.model.cvar_limit == 1.0
    assert instance.initial_holdings["cash"] == 1.0


@pytest.mark.parametrize("key", ["N", "K", "S", "T", "alpha", "gamma", "tau", "P", "k0", "r", "x0"])
def test_a_missing_key_is_named(key):
    content = {name: value for name, value in CONTENT.items() if name != key}
    with pytest.raises(DataError, match=rf"lacks \['{key}'\]; it needs \['N', 'K'"):
        instance_from(content)
    instance_from(CONTENT)  # and the next call works


def test_all_missing_keys_are_named_at_once():
    with pytest.raises(DataError, match=r"lacks \['N', 'K', 'S', 'T', 'alpha', .*'x0'\]"):
        instance_from({})


@pytest.mark.parametrize("key", ["N", "K", "S", "T"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, r"= 0; it must be at least 1"),
        (-2, r"= -2; it must be at least 1"),
        (2.0, r"= 2\.0: must be an integer"),
        ("2", r"= '2': must be an integer"),
        (True, r"= True: must be an integer"),
        (None, r"= None: must be an integer"),
    ],
)
def test_a_size_is_a_positive_integer(key, value, words):
    with pytest.raises(DataError, match=f"{key} {words}"):
        instance_from({**CONTENT, key: value})


@pytest.mark.parametrize("key", ["alpha", "gamma", "tau"])
@pytest.mark.parametrize("value", ["0.1", True, None, [0.1], NAN, INF, HUGE], ids=_short)
def test_a_parameter_is_a_finite_number(key, value):
    with pytest.raises(DataError, match=key):
        instance_from({**CONTENT, key: value})


@pytest.mark.parametrize("value", [-1, 2, HUGE], ids=_short)
def test_the_first_regime_is_one_of_them(value):
    with pytest.raises(DataError, match=r"regime .* is outside 0\.\.1"):
        instance_from({**CONTENT, "k0": value})


@pytest.mark.parametrize("value", ["0", 0.0, True, None])
def test_the_first_regime_is_an_integer(value):
    with pytest.raises(DataError, match=r"k0 = .*: must be an integer"):
        instance_from({**CONTENT, "k0": value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"N": 3}, r"r has shape \(2, 3, 2\), but K, S, N are \(2, 3, 3\)"),
        ({"K": 3}, r"r has shape \(2, 3, 2\), but K, S, N are \(3, 3, 2\)"),
        ({"S": 2}, r"r has shape \(2, 3, 2\), but K, S, N are \(2, 2, 2\)"),
        ({"r": [[0.1, 0.2]]}, r"r has shape \(1, 2\), but K, S, N are"),
        ({"r": [[[0.1, 0.2], [0.3]], [[0.1, 0.2], [0.3, 0.4]]]}, r"r: must be a rectangular array"),
        ({"r": {"a": 1.0}}, r"r: must be a rectangular array"),
        ({"x0": [1.0, 0.0]}, r"x0 has shape \(2,\); it needs 3 numbers"),
        ({"x0": 1.0}, r"x0 has shape \(\); it needs 3 numbers"),
        ({"x0": [[1.0, 0.0, 0.0]]}, r"x0 has shape \(1, 3\); it needs 3 numbers"),
        ({"P": [[1.0]]}, r"transition_matrix has shape \(1, 1\); expected \(2, 2\)"),
        ({"P": [CONTENT["P"]] * 2}, r"P|transition_matrix"),
        ({"P": [[0.8, 0.2]]}, r"transition_matrix has shape \(1, 2\); expected \(2, 2\)"),
        ({"P": [[0.8, 0.1], [0.4, 0.6]]}, r"transition_matrix\[0, 0\] sums to 0\.9"),
        ({"P": [[1.2, -0.2], [0.4, 0.6]]}, r"negative probability -0\.2"),
        ({"P": [[NAN, 0.2], [0.4, 0.6]]}, r"transition_matrix\[0, 0\] = nan is not finite"),
        ({"r": _returns_with(NAN)}, r"returns\[0, 0, 0\] = nan is not finite"),
        ({"r": _returns_with(INF)}, r"returns\[0, 0, 0\] = inf is not finite"),
        ({"r": _returns_with(None)}, r"returns\[0, 0, 0\] = nan is not finite"),
        ({"r": _returns_with(-1.5)}, r"returns holds -1\.5, a loss of more than everything"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arrays_that_do_not_fit_are_rejected(change, words):
    with pytest.raises(DataError, match=words):
        instance_from({**CONTENT, **change})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("r", _returns_with("0.06")),
        ("r", _returns_with(True)),
        ("r", _returns_with(HUGE)),
        ("P", [["0.8", 0.2], [0.4, 0.6]]),
        ("x0", ["1", 0.0, 0.0]),
        ("x0", [True, 0.0, 0.0]),
    ],
    ids=_short,
)
def test_what_is_no_number_inside_an_array_is_rejected(key, value):
    with pytest.raises(DataError, match=key):
        instance_from({**CONTENT, key: value})


@pytest.mark.parametrize("entry", [NAN, INF, None], ids=str)
def test_first_holdings_are_finite(entry):
    with pytest.raises(DataError, match="x0"):
        instance_from({**CONTENT, "x0": [entry, 0.0, 0.0]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"alpha": 1.0}, "cvar_confidence = 1.0"),
        ({"alpha": -0.1}, "cvar_confidence = -0.1"),
        ({"gamma": -0.1}, "cvar_limit = -0.1"),
    ],
)
def test_parameters_out_of_range_are_rejected_by_the_model(change, words):
    with pytest.raises(SddpError, match=words):
        instance_from({**CONTENT, **change})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"bad\.json cannot be read as JSON: Expecting value"),
        ('{"N": 2', r"bad\.json cannot be read as JSON: Expecting"),
        ("N = 2", r"bad\.json cannot be read as JSON: Expecting value"),
        ("[1, 2]", r"an instance is a JSON object, not list"),
        ("3", r"an instance is a JSON object, not int"),
        ("null", r"an instance is a JSON object, not NoneType"),
        ("{}", r"lacks \['N'"),
    ],
)
def test_a_file_that_is_no_instance_is_rejected(tmp_path, text, words):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_instance(path)


def test_files_that_cannot_be_read_are_rejected(tmp_path):
    with pytest.raises(DataError, match=r"none\.json cannot be read as JSON: .*No such file"):
        read_instance(tmp_path / "none.json")
    with pytest.raises(DataError, match=r"cannot be read as JSON"):
        read_instance(tmp_path)
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError, match=r"binary\.json cannot be read as JSON: 'utf-8'"):
        read_instance(binary)
