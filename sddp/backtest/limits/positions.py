"""Mapping between the assets of a market and those of scenarios."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from sddp.allocation.model import AllocationModel, per_asset
from sddp.labels import CASH, places_of
from sddp.market.market import View

# What an `AllocationModel` may say asset by asset, and what holds for assets left out.
PER_ASSET = {"transaction_cost": None, "sale_cost": None, "weight_limit": np.inf}


def model_for(model: AllocationModel, view: View, assets: Sequence[Hashable]) -> AllocationModel:
    """The model with what it says asset by asset, of some assets of the market only."""
    everything = list(view.assets)
    if len(assets) == len(everything):
        return model
    kept = places_of(assets, everything)
    spread: dict[str, Any] = {}
    for name, unnamed in PER_ASSET.items():
        if getattr(model, name) is not None:
            numbers = per_asset(getattr(model, name), everything, name, default=unnamed)[kept]
            known = zip(assets, numbers.tolist(), strict=True)
            spread[name] = {label: number for label, number in known if number != unnamed}
    return replace(model, **spread)


def money_of_known(
    holdings: pd.Series[float], assets: Sequence[Hashable], model: AllocationModel
) -> dict[Hashable, float]:
    """Money by position, cash and some assets; others are sold at the model's cost."""
    money = {name: float(amount) for name, amount in holdings.items()}
    known = {CASH, *assets}
    unknown = [name for name in money if name not in known]
    if unknown:
        names = [name for name in money if name != CASH]
        given = model.transaction_cost if model.sale_cost is None else model.sale_cost
        costs = dict(zip(names, per_asset(given, names, "sale_cost"), strict=True))
        money[CASH] += sum((1.0 - float(costs[name])) * money.pop(name) for name in unknown)
    return money


def without_unquoted(weights: pd.Series[float], view: View) -> pd.Series[float]:
    """Weights with those of unquoted assets moved to cash."""
    barred = set(view.assets[~view.quoted.to_numpy()[-1]])
    allowed = np.array([name not in barred for name in weights.index])
    if allowed.all():
        return weights
    kept = weights[allowed].copy()
    kept.iloc[0] = 1.0 - float(kept.iloc[1:].sum())  # cash comes first
    return kept
