"""Reprs are one short line, HTML shows labels as text; `allocate` is its five calls."""

from __future__ import annotations

import html
import logging

import numpy as np
import pandas as pd
import pytest

import sddp
from sddp.display.shown import as_html
from sddp.errors import DataError
from sddp.labels import label_index
from sddp.portfolio import SampleMoments
from tests.test_rng import fitted, history, policy, report, trained
from tests.tickers import LABELS


def problem_of_water() -> sddp.Problem:
    import pyomo.environ as pyo

    def reservoir(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.volume_in, m.volume_out, m.buy = (
            pyo.Var(),
            pyo.Var(bounds=(0, 10)),
            pyo.Var(bounds=(0, 9)),
        )
        m.balance = pyo.Constraint(expr=m.volume_out == m.volume_in + m.buy - 3.0)
        m.cost = pyo.Objective(expr=2.0 * m.buy)
        states = {"volume": sddp.State(m.volume_in, m.volume_out, initial=1.0)}
        return sddp.Stage(m, states=states)

    return sddp.Problem(sddp.linear_graph(3), reservoir)


def objects() -> dict[str, object]:
    model, drawn, own = policy()
    result, water = trained(model, drawn, 1), problem_of_water()
    training = sddp.train(water, rng=1, stopping=sddp.Iterations(3), progress=False)
    moments = SampleMoments().estimate(np.expm1(history()))
    one_period = sddp.MeanVariance(risk_aversion=3.0).solve(moments, current_weights=[0.0, 0.0])
    return {
        "problem": water,
        "policy": training.policy,
        "training": training,
        "decision": training.policy.decide(1, {"volume": 2.0}),
        "allocation problem": own.problem,
        "allocation policy": own,
        "allocation result": result,
        "allocation decision": own.decide(regime=0, holdings={"cash": 1.0}),
        "scenarios": drawn,
        "fitted regimes": fitted(),
        "moments": moments,
        "one period": one_period,
        "report": report(),
    }


@pytest.fixture(scope="module")
def shown() -> dict[str, object]:
    return objects()


def test_reprs_are_one_short_line(shown):
    for name, thing in shown.items():
        text = repr(thing)
        assert "\n" not in text, name
        assert len(text) < 300, name
        assert " at 0x" not in text, name
        assert "array(" not in text, name


def test_a_notebook_shows_tables(shown):
    for name, thing in shown.items():
        page = thing._repr_html_()
        assert page.startswith("<div class='tex2jax_ignore mathjax_ignore'>"), name
        assert len(page) < 20_000, name
    assert "volatility" in shown["scenarios"]._repr_html_()
    assert "net of costs" in shown["report"]._repr_html_()


def test_a_few_facts_are_the_right_ones(shown):
    assert repr(shown["problem"]) == (
        "Problem(nodes: 3, different stages: 1, state: volume, sense: minimize)"
    )
    decision = shown["allocation decision"]
    assert f"value: {decision.value:.6g}" in repr(decision)
    assert repr(shown["scenarios"]) == (
        "MarkovScenarios(assets: a, b, regimes: state1, state2, scenarios: 6, stages: 2, "
        "law: one for all stages)"
    )


def test_labels_are_shown_as_text_and_long_tables_are_cut():
    drawn = sddp.MarkovScenarios(
        np.zeros((1, 2, len(LABELS))), [[1.0]], n_stages=1, asset_names=LABELS
    )
    page = drawn._repr_html_()
    for label in LABELS[:20]:
        assert html.escape(str(label)) in page
    assert f"the first 20 of {len(LABELS)} rows" in page
    assert "<script>" not in as_html("x", {"<script>": "<script>"})
    assert len(repr(drawn)) < 300


def test_training_logs_to_its_logger(caplog):
    with caplog.at_level(logging.DEBUG, logger="sddp"):
        sddp.train(problem_of_water(), rng=1, stopping=sddp.Iterations(2), progress=False)
    texts = [record.getMessage() for record in caplog.records if record.name == "sddp"]
    assert sum(text.startswith("iteration ") for text in texts) == 2
    assert texts[-1].startswith("training ended after 2 iterations")
    assert not logging.getLogger("sddp").handlers  # where they go is the user's business


# --- one call ------------------------------------------------------------------------------------


def prices(labels=("BRK.B", 7203)) -> pd.DataFrame:
    return 100.0 * np.exp(history().cumsum()).set_axis(label_index(labels), axis=1)


QUICK = {
    "regimes": sddp.GaussianRegimes(2, n_starts=1),
    "n_stages": 2,
    "n_scenarios": 20,
    "stopping": sddp.Iterations(3),
}


def test_one_call_decides_by_label_and_repeats_itself():
    first, again, other = (sddp.allocate(prices(), rng=rng, **QUICK) for rng in (1, 1, 2))
    assert list(first.holdings.index) == ["cash", "BRK.B", 7203]
    assert first.holdings.equals(again.holdings)
    assert first.value != other.value
    assert first.cvar <= 0.03 + 1e-9
    held = sddp.allocate(prices(), {"cash": 10.0, 7203: 90.0}, rng=1, **QUICK)
    assert held.holdings.sum() + held.cost == pytest.approx(100.0)


def test_one_call_takes_factors_and_a_model():
    factors = history()[["a"]].iloc[1:]
    model = sddp.AllocationModel(cvar_limit=0.01, weight_limit={7203: 0.1})
    decision = sddp.allocate(prices(), model=model, factors=factors, **QUICK)
    assert decision.holdings[7203] <= 0.1 + 1e-9
    assert decision.cvar <= 0.01 + 1e-9


def test_one_call_names_what_is_wrong():
    broken = prices()
    broken.iloc[3, 1] = np.nan
    with pytest.raises(DataError, match="missing or not positive at 7203 on 2020-01-06"):
        sddp.allocate(broken, **QUICK)
    with pytest.raises(DataError, match="prices: label 7203 at position 0 and label '7203'"):
        sddp.allocate(prices((7203, "7203")), **QUICK)
    with pytest.raises(DataError, match="factors and prices must have the same dates"):
        sddp.allocate(prices(), factors=history()[["a"]], **QUICK)
