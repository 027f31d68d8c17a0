"""Noise after the decision: the four ways to write it, and the words for a wrong one."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.sparse as sp

import sddp
from sddp.engine.stage.transition import IdentityMap, compile_transition
from sddp.errors import ModelError

SIZES = {"a": 1, "b": 2}
RNG = np.random.default_rng(0)
MATRICES, SHIFTS = RNG.normal(size=(4, 3, 3)), RNG.normal(size=(4, 3))
SCALES = RNG.normal(size=(4, 3))
P = np.array([0.1, 0.2, 0.3, 0.4])

FORMS = {
    "scale": (sddp.LinearTransition(scale=SCALES, probabilities=P), False),
    "scale-shift": (sddp.LinearTransition(scale=SCALES, shift=SHIFTS, probabilities=P), True),
    "dense": (sddp.LinearTransition(matrix=MATRICES, shift=SHIFTS, probabilities=P), True),
    "sparse": (
        sddp.LinearTransition(
            matrix=[sp.csr_array(m) for m in MATRICES], shift=SHIFTS, probabilities=P
        ),
        True,
    ),
    "shift": (sddp.LinearTransition(shift=SHIFTS, probabilities=P), True),
    "by-state": (
        sddp.LinearTransition(scale={"b": SCALES[:, 1:]}, shift=SHIFTS, probabilities=P),
        True,
    ),
}


def matrices(form):
    """``A_e`` of each form, written out."""
    if form in ("dense", "sparse"):
        return MATRICES
    if form == "shift":
        return np.array([np.eye(3)] * 4)
    scales = SCALES.copy()
    if form == "by-state":
        scales[:, 0] = 1.0
    return np.array([np.diag(scale) for scale in scales])


@pytest.mark.parametrize("sparsity", [0, 1, 3])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_affine_map_it_declares(form, sparsity):
    """Arrival, cuts' values, and the aggregated cut against plain sums."""
    transition, shifted = FORMS[form]
    a, b = matrices(form), SHIFTS if shifted else np.zeros((4, 3))
    compiled = compile_transition(transition, SIZES, "node 1")
    rng = np.random.default_rng(1)
    slopes, intercepts, x = rng.normal(size=(5, 3)), rng.normal(size=5), rng.normal(size=3)
    x[:sparsity] = 0.0
    arrived = np.array([a[e] @ x + b[e] for e in range(4)])
    for e in range(4):
        assert compiled.arrive(x, e) == pytest.approx(arrived[e])
        twice = compiled.arrive(np.array([x, 2.0 * x]), e)
        assert twice == pytest.approx(np.array([arrived[e], 2.0 * arrived[e] - b[e]]))
    expected = (intercepts[:, None] + slopes @ arrived.T).T
    assert compiled.values(slopes, intercepts, x) == pytest.approx(expected)
    chosen, weights = np.array([4, 0, 4, 2]), rng.dirichlet(np.ones(4))
    slope = sum(weights[e] * a[e].T @ slopes[chosen[e]] for e in range(4))
    constant = sum(
        weights[e] * (intercepts[chosen[e]] + slopes[chosen[e]] @ b[e]) for e in range(4)
    )
    assert compiled.weighted_slope(slopes, chosen, weights) == pytest.approx(slope)
    assert compiled.weighted_constant(slopes, intercepts, chosen, weights) == pytest.approx(
        constant
    )
    pulled = np.array([a[e].T @ slopes[0] for e in range(4)])
    assert compiled.pull_back(slopes[0]) == pytest.approx(pulled)
    assert compiled.probabilities == pytest.approx(P)


def test_no_transition_is_the_identity():
    compiled = compile_transition(None, SIZES, "node 1")
    assert isinstance(compiled, IdentityMap)
    assert compiled.n_realisations == 1
    assert compiled.arrive(np.arange(3.0), 0) == pytest.approx(np.arange(3.0))


def test_one_realisation_may_be_given_without_its_axis():
    for transition in (
        sddp.LinearTransition(scale=[1.0, 2.0, 3.0]),
        sddp.LinearTransition(matrix=np.diag([1.0, 2.0, 3.0])),
    ):
        compiled = compile_transition(transition, SIZES, "node 1")
        assert compiled.n_realisations == 1
        assert compiled.arrive(np.ones(3), 0) == pytest.approx([1.0, 2.0, 3.0])


def test_scale_and_matrix_exclude_each_other():
    with pytest.raises(ModelError, match="scale or matrix, not both"):
        sddp.LinearTransition(scale=[1.0], matrix=[[1.0]])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": [[1.0, 2.0]]}, "scale has shape (1, 2)"),
        ({"scale": [[1.0, 2.0, np.nan]]}, "finite"),
        ({"scale": {"c": [1.0]}}, "scale names 'c'"),
        ({"scale": {"a": [1.0, 2.0], "b": np.ones((3, 2))}}, "scale"),
        ({"scale": {"b": [1.0, 2.0, 3.0]}}, "scale"),
        ({"scale": np.ones((0, 3))}, "scale has shape (0, 3)"),
        ({"matrix": np.ones((2, 2, 2))}, "matrix"),
        ({"matrix": np.ones((1, 4, 4))}, "matrix"),
        ({"matrix": [np.eye(3), np.eye(2)]}, "matrix"),
        ({"matrix": np.full((1, 3, 3), np.nan)}, "finite"),
        ({"matrix": [sp.csr_array(np.diag([1.0, 2.0, np.nan]))]}, "finite"),
        ({"scale": np.ones((2, 3)), "shift": np.ones((3, 3))}, "shift has shape (3, 3)"),
        ({"shift": [[1.0, np.inf, 0.0]]}, "finite"),
        ({"scale": np.ones((2, 3)), "probabilities": [0.5, 0.6]}, "probabilities sum to 1.1"),
        ({"scale": np.ones((2, 3)), "probabilities": [1.0]}, "probabilities has shape (1,)"),
    ],
)
def test_bad_transitions_are_rejected_with_the_node(options, words):
    with pytest.raises(ModelError, match=f"node 1.*{re.escape(words)}"):
        compile_transition(sddp.LinearTransition(**options), SIZES, "node 1")


def test_arrays_are_copied_and_read_only():
    scale = np.ones((2, 3))
    compiled = compile_transition(sddp.LinearTransition(scale=scale), SIZES, "node 1")
    scale[:] = 5.0
    assert compiled.scale == pytest.approx(np.ones((2, 3)))
    with pytest.raises(ValueError, match="read-only"):
        compiled.scale[0, 0] = 2.0
