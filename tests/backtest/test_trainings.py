"""Kept policies: found again to the bit, never mistaken for others, never trusted when damaged."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sddp.allocation.model import AllocationModel
from sddp.backtest import TrainingCache, backtest
from sddp.backtest import policy_cache as trainings
from sddp.engine.training.stopping import Iterations
from sddp.engine.training.train import INTERRUPTED
from sddp.errors import DataError, StoreWarning
from sddp.scenarios import MarkovScenarios
from tests.backtest.test_multistage import small_strategy, two_regime_market

MODEL = AllocationModel(transaction_cost=0.002, cvar_limit=0.01)
HELD = {"cash": 0.4, "bold": 0.5, "meek": 0.1}


def scenarios(seed: int = 4) -> MarkovScenarios:
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.002, [0.02, 0.005], (2, 25, 2))
    return MarkovScenarios(
        returns, [[0.9, 0.1], [0.3, 0.7]], asset_names=["bold", "meek"], n_stages=3
    )


def arguments(**changes):
    usual = {
        "model": MODEL,
        "scenarios": scenarios(),
        "initial_regime": 0,
        "stopping": Iterations(3),
        "rng": np.random.default_rng(7),
    }
    given = usual | changes
    return (given.pop("model"), given.pop("scenarios")), given


def train(cache, **changes):
    positional, named = arguments(**changes)
    return cache.train(*positional, **named)


def decided(policy) -> list[bytes]:
    """Decisions of all stages under a belief, to the bit."""
    return [
        policy.decide(stage=stage, regime=[0.6, 0.4], holdings=HELD).holdings.to_numpy().tobytes()
        for stage in range(3)
    ]


def reject(*_, **__):
    raise AssertionError("trained again")


def test_a_policy_is_trained_once_and_found_to_the_bit(tmp_path, monkeypatch):
    cache = TrainingCache(tmp_path)
    first = train(cache)
    assert first.result.policy is first.policy
    monkeypatch.setattr(trainings, "train_allocation", reject)
    found = train(TrainingCache(str(tmp_path)))
    assert found.result is None
    assert found.policy.bound == first.policy.bound
    assert decided(found.policy) == decided(first.policy)
    with pytest.raises(AssertionError, match="trained again"):
        train(TrainingCache())


@pytest.mark.parametrize(
    "change",
    [
        {"model": replace(MODEL, cvar_limit=0.011)},
        {"model": replace(MODEL, cash_return=1e-4)},
        {"scenarios": scenarios(5)},
        {"initial_regime": 1},
        {"stopping": Iterations(4)},
        {"rng": np.random.default_rng(8)},
    ],
    ids=["limit", "cash", "scenarios", "regime", "stopping", "seed"],
)
def test_other_arguments_are_another_policy(change, tmp_path, monkeypatch):
    cache = TrainingCache(tmp_path)
    train(cache)
    monkeypatch.setattr(trainings, "train_allocation", reject)
    with pytest.raises(AssertionError, match="trained again"):
        train(cache, **change)


def test_a_damaged_file_is_told_and_trained_again(tmp_path):
    cache = TrainingCache(tmp_path)
    sound = decided(train(cache).policy)
    (path,) = tmp_path.rglob("*.json")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(StoreWarning, match=f"{path.name}.* it is trained again"):
        assert decided(train(cache).policy) == sound
    assert train(cache).result is None


def test_what_was_interrupted_is_not_kept(tmp_path, monkeypatch):
    half = SimpleNamespace(stopped_because=INTERRUPTED)
    monkeypatch.setattr(trainings, "train_allocation", lambda *_, **__: half)
    with pytest.raises(KeyboardInterrupt):
        train(TrainingCache(tmp_path))
    assert list(tmp_path.rglob("*.json")) == []


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"the store cannot write .* choose another folder"):
        train(TrainingCache(tmp_path / "file"))


@pytest.mark.long
def test_both_modes_and_other_lags_share_their_policies(tmp_path):
    """Ten decisions, trained from cash at every third, by four backtests as if on their own."""
    market = two_regime_market()
    kept = small_strategy(
        n_stages=3, refit_every=3, train_from="cash", trainings=TrainingCache(tmp_path)
    )
    alone = replace(kept, trainings=TrainingCache())
    start, end = market.dates[100], market.dates[110]
    for mode in ("run-through", "receding"):
        for lag in (0, 1):
            wealth = [
                backtest(
                    market,
                    {"tested": replace(strategy, mode=mode)},
                    start=start,
                    end=end,
                    transaction_cost=0.004,
                    lag=lag,
                ).wealth
                for strategy in (kept, alone)
            ]
            pd.testing.assert_frame_equal(*wealth, check_exact=True)
    assert len(list(tmp_path.rglob("*.json"))) == 4
