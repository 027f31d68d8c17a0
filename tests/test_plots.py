"""Pictures show the numbers they are of, and labels as text."""

from __future__ import annotations

import io

import numpy as np
import pytest

import sddp
from sddp.display.fonts import drawable
from sddp.errors import DataError, ModelError
from tests.test_rng import fitted, history, policy, trained
from tests.test_shown import problem_of_water
from tests.tickers import LABELS


def drawn(figure):
    """The figure, once it can be drawn."""
    figure.savefig(io.BytesIO(), format="png", dpi=30)
    return figure


def test_a_training_draws_its_bound():
    result = sddp.train(problem_of_water(), rng=1, stopping=sddp.Iterations(4), progress=False)
    (line,) = drawn(result.plot()).axes[0].get_lines()
    assert line.get_ydata().tolist() == result.log["bound"].tolist()
    certified = sddp.train(
        problem_of_water(), rng=1, stopping=sddp.Gap(relative=1e-3), progress=False
    )
    known = drawn(certified.plot()).axes[0].get_lines()[1]
    assert known.get_ydata()[0] == certified.certified.value


def test_an_allocation_result_draws_growth():
    result = trained(*policy()[:2], 1)
    line = drawn(result.plot()).axes[0].get_lines()[0]
    np.testing.assert_allclose(line.get_ydata(), result.log["bound"] - 1.0)


def test_scenarios_draw_quantiles_and_means_of_each_regime():
    scenarios = policy()[1]
    ax = drawn(scenarios.plot(stage=1)).axes[0]
    returns = scenarios.returns[1]
    for j, (line, bars) in enumerate(zip(ax.get_lines(), ax.collections, strict=False)):
        np.testing.assert_allclose(line.get_xdata(), returns[j].mean(axis=0))
        ends = np.array([segment[:, 0] for segment in bars.get_segments()])
        # Six equiprobable outcomes: the first and the last hold the 5 % and the 95 % quantile.
        np.testing.assert_allclose(ends[:, 0], returns[j].min(axis=0))
        np.testing.assert_allclose(ends[:, 1], returns[j].max(axis=0))
    with pytest.raises(DataError, match=r"stage = 2: must be in 0\.\.1"):
        scenarios.plot(stage=2)


def test_scenarios_of_many_odd_labels_name_the_first():
    scenarios = sddp.MarkovScenarios(
        np.zeros((1, 2, len(LABELS))), [[1.0]], n_stages=1, asset_names=LABELS
    )
    ax = drawn(scenarios.plot()).axes[0]
    texts = [label.get_text() for label in ax.get_yticklabels()]
    assert texts == [drawable(str(label)) for label in LABELS[:16]]
    assert f"of {len(LABELS)} assets" in ax.get_title(loc="left")


@pytest.mark.parametrize("form", ["frame", "array"])
def test_regimes_draw_their_filter(form):
    observations = history() if form == "frame" else history().to_numpy()
    ax = drawn(fitted().plot(observations)).axes[0]
    first = ax.collections[0].get_paths()[0].vertices[:, 1]
    probabilities = fitted().filter(observations)
    assert first.max() == pytest.approx(probabilities[:, 0].max())
    assert len(ax.collections) == fitted().n_states


def test_a_policy_draws_its_wealth():
    own = policy()[2]
    ax = drawn(own.plot(rng=3, n_paths=40)).axes[0]
    simulated = own.simulate(40, rng=3)["wealth"].unstack("stage").mean()
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), simulated)
    assert ax.get_lines()[1].get_ydata()[0] == own.bound


def test_a_policy_draws_its_value_function():
    own = policy()[2]
    lines = drawn(own.plot("value", assets=["a"], stage=1)).axes[0].get_lines()
    assert len(lines) == 2
    for regime, line in enumerate(lines):
        x, y = line.get_xdata()[10], line.get_ydata()[10]
        held = {"a": x, "cash": 1.0 - x}
        value = own.decide(stage=1, regime=regime, holdings=held).value
        assert y == pytest.approx(value, abs=1e-9)
    area = drawn(own.plot("value", assets=["a", "b"], stage=1, regime=1)).axes[0]
    assert area.get_xlabel() == "share in a on arrival"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "rng = None: must be given to draw paths"),
        ({"what": "everything"}, "what = 'everything': must be 'wealth' or 'value'"),
        ({"what": "value"}, r"assets = \[\]: must be one or two different assets"),
        ({"what": "value", "assets": ["a", "a"]}, "must be one or two different assets"),
        ({"what": "value", "assets": ["c"]}, "assets hold 'c'; known are a, b"),
        ({"what": "value", "assets": ["a"], "stage": 7}, "stage = 7 is outside 0..1"),
        ({"what": "value", "assets": ["a", "b"], "regime": 1}, "is not reached at stage 0"),
    ],
)
def test_a_picture_that_makes_no_sense_is_rejected(options, words):
    with pytest.raises(ModelError, match=words):
        policy()[2].plot(**options)
