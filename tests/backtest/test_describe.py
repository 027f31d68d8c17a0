from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import BuyAndHold, EveryPeriods, InverseVolatility
from sddp.cache.fingerprint import (
    NOT_DESCRIBED,
    content_hash,
    describe,
    fresh,
    generator_for,
    key_of,
)
from sddp.errors import ModelError

DAY, NEXT = pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-02")


@dataclass
class Settings:
    number: float = 1.0
    name: str = "a"
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    folder: str = field(default="x", metadata=NOT_DESCRIBED)
    done: int = field(default=0, init=False)


def key(thing: object) -> str:
    return key_of(describe(thing))


def test_what_moves_a_number_moves_the_key_and_nothing_else_does():
    plain = key(Settings())
    assert key(Settings(folder="y")) == plain
    used = Settings()
    used.done = 3
    used.rng.random()
    assert key(used) == plain
    others = [Settings(number=2.0), Settings(name="b"), Settings(rng=np.random.default_rng(2))]
    assert len({plain, *map(key, others)}) == 4
    assert key(np.random.default_rng(1).spawn(2)[0]) != key(np.random.default_rng(1).spawn(2)[1])


def test_classes_are_told_apart_though_their_fields_are_alike():
    assert key(EveryPeriods(20)) != key(InverseVolatility(20))
    assert describe(EveryPeriods(20)) == {
        "class": "sddp.backtest.strategies.EveryPeriods",
        "n_periods": 20,
    }


def test_the_order_of_a_mapping_says_nothing_and_that_of_a_list_does():
    assert key(BuyAndHold({"a": 0.1, "b": 0.2})) == key(BuyAndHold({"b": 0.2, "a": 0.1}))
    assert key(BuyAndHold({"a": 0.1, "b": 0.2})) != key(BuyAndHold({"a": 0.2, "b": 0.1}))
    assert key([1, 2]) != key([2, 1])


def test_a_bit_a_date_or_a_name_moves_the_hash_of_a_table():
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, [DAY, NEXT])
    bit, late = table.copy(), table.set_axis([DAY, NEXT + pd.Timedelta(days=1)])
    bit.iloc[1, 1] = np.nextafter(4.0, 5.0)
    tables = [table, bit, late, table.rename(columns={"b": "c"}), table.iloc[:1], None]
    assert len({content_hash(t) for t in tables}) == 6
    assert content_hash(table) == content_hash(table.copy())
    assert content_hash(table, None) != content_hash(None, table)


@pytest.mark.parametrize("thing", [lambda: 1, object(), {"a": object()}])
def test_what_cannot_be_told_apart_is_rejected(thing):
    with pytest.raises(ModelError, match="cannot be described, so its results could not be found"):
        describe(thing)


def test_a_function_of_a_module_is_described_by_its_name():
    assert describe(np.linalg.norm) == {"function": "numpy.linalg.norm"}


def test_generators_by_key_depend_on_seed_and_key_alone():
    before = generator_for(7, "training", DAY).random(3)
    seed = np.random.SeedSequence(7)
    assert (generator_for(seed, "training", DAY).random(3) == before).all()
    (child,) = seed.spawn(1)
    generator_for(seed, "training", NEXT).random(10)
    assert (generator_for(seed, "training", DAY).random(3) == before).all()
    others = [
        generator_for(7, "training", NEXT),
        generator_for(7, "regimes", DAY),
        generator_for(8, "training", DAY),
        generator_for(child, "training", DAY),
    ]
    assert all((other.random(3) != before).all() for other in others)


@pytest.mark.parametrize("seed", [np.random.default_rng(3), -1, True, 1.5, "3", None])
def test_settings_take_seeds_only(seed):
    """What was drawn from a generator before would move their numbers."""
    with pytest.raises(ModelError, match=r"^seed = .*: must be an integer or a SeedSequence"):
        generator_for(seed, "training")


@dataclass
class Holder:
    inner: BuyAndHold
    rule: EveryPeriods = field(default_factory=lambda: EveryPeriods(3))


def test_fresh_settings_have_no_past_at_any_depth():
    used = Holder(BuyAndHold({"a": 1.0}))
    used.inner._bought = True
    anew = fresh(used)
    assert (anew.inner._bought, used.inner._bought) == (False, True)
    assert anew.rule is used.rule
    assert key(anew) == key(used)
    assert fresh("text") == "text"
