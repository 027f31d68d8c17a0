"""Random sets of constraints: a verified optimum, or a minimal conflict and a relaxation."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from experiments.fuzz.constraint_oracle import (
    TOLERANCE,
    Problem,
    least_excess,
    least_total,
    optimum,
    optimum_by_active_set,
)
from sddp.errors import InfeasibleConstraints, ModelError
from sddp.portfolio import (
    CashBounds,
    Constraint,
    ConstraintSet,
    EsgFloor,
    FactorExposure,
    GroupLimit,
    Liquidity,
    MeanVariance,
    Moments,
    PositionLimit,
    TrackingError,
    Turnover,
)

# No problem may take longer, seconds of this process.
SLOWEST = 2.0

# Objectives agree to this share of their value, or of this return where they are smaller.
AGREEMENT, RATE = 1e-8, 1e-3


@dataclass(frozen=True)
class Outcome:
    """What became of one problem.

    Attributes
    ----------
    number : int
    verdict : str
        ``optimum``, ``conflict``, ``not concave`` (which is said), or ``wrong``.
    seconds : float
        Of this process, for the answer alone.
    text : str
    """

    number: int
    verdict: str
    seconds: float
    text: str


def random_problem(seed: int, number: int) -> Problem:
    """Two to twelve assets, one to eight constraints of all kinds, half of them demanding."""
    rng = np.random.default_rng([seed, number])
    n = int(rng.integers(2, 13))
    history = rng.normal(size=(3 * n + 10, 1)) * 0.02
    history = history + rng.normal(size=(3 * n + 10, n)) * rng.uniform(0.01, 0.06, n)
    names = [f"a{i}" for i in range(n)]
    current = rng.dirichlet(np.full(n + 1, 0.7))[1:]
    current[rng.random(n) < 0.2] = 0.0
    kinds = [_position, _group, _factor, _tracking, _esg, _turnover, _liquidity, _cash]
    chosen = rng.choice(len(kinds), size=int(rng.integers(1, 9)))
    if rng.random() < 0.5:
        # Cones are the slowest; half of the sets have none.
        chosen = chosen[chosen != kinds.index(_tracking)]
    made = [kinds[kind](rng, names, f"c{k}") for k, kind in enumerate(chosen)]
    return Problem(
        names=names,
        mean=rng.normal(0.006, 0.008, n),
        covariance=np.cov(history.T).reshape(n, n),
        risk_aversion=float(rng.choice([0.5, 2.0, 5.0, 20.0])),
        current=current,
        buy=rng.choice([0.0, 0.001, 0.005, 0.02], n),
        sell=rng.choice([0.0, 0.001, 0.005, 0.02], n),
        cash_return=0.002,
        self_financing=bool(rng.random() < 0.5),
        constraints=ConstraintSet(tuple(made)),
    )


def check(number: int, seed: int) -> Outcome:
    """Solve one problem and compare with the independent answers."""
    p = random_problem(seed, number)
    start = time.process_time()
    model = MeanVariance(
        risk_aversion=p.risk_aversion,
        transaction_cost=p.buy,
        sale_cost=p.sell,
        self_financing=p.self_financing,
        constraints=p.constraints,
    )
    verdict, text = "wrong", ""
    try:
        result = model.solve(
            Moments.of(p.mean, p.covariance, p.names),
            current_weights=p.current,
            cash_return=p.cash_return,
        )
    except InfeasibleConstraints as error:
        seconds = time.process_time() - start
        text = _judge_conflict(p, error)
        verdict = "wrong" if text else "conflict"
    except ModelError as error:
        # Self-financing, a limit on cash can make it pay to waste wealth, which is said.
        seconds = time.process_time() - start
        is_said = p.self_financing and "wasting money" in str(error)
        verdict, text = ("not concave", "") if is_said else ("wrong", str(error))
    except Exception as error:
        seconds, text = time.process_time() - start, f"{type(error).__name__}: {error}"
    else:
        seconds = time.process_time() - start
        text = _judge_optimum(p, result)
        verdict = "wrong" if text else "optimum"
    if seconds > SLOWEST:
        verdict, text = "wrong", f"took {seconds:.1f} s; {text}"
    return Outcome(number, verdict, seconds, text)


def _judge_optimum(p: Problem, result: Any) -> str:
    """What is wrong with an answer; empty where nothing is."""
    if not result.residual <= 1e-8:
        return f"residual {result.residual:.1e}"
    now = dict(zip(p.names, p.current.tolist(), strict=True))
    hard = ConstraintSet(tuple(c for c in p.constraints.constraints if c.penalty is None))
    covariance = pd.DataFrame(p.covariance, index=p.names, columns=p.names)
    breaches = hard.check(result.holdings, current_weights=now, covariance=covariance)
    if any(
        breach.amount > 1e-8 * (1.0 + 100.0 * (breach.unit == "of score")) for breach in breaches
    ):
        return f"hard constraints are broken: {breaches}"
    value = optimum(p)
    if value is None:
        return "Clarabel says that there is no portfolio"
    values = {"Clarabel": value}
    if find_spec("daqp") and (other := optimum_by_active_set(p)) is not None:
        values["DAQP"] = other
    # Of a return: where the objective is near 0, rounding is a share of what it is made of.
    size = max(abs(value), RATE)
    for name, found in values.items():
        if abs(found - result.objective) > AGREEMENT * size:
            return f"objective {result.objective!r}, {name}'s {found!r}"
    return ""


def _judge_conflict(p: Problem, error: InfeasibleConstraints) -> str:
    """What is wrong with a named conflict; empty where nothing is."""
    everything = [c.name for c in p.constraints.constraints]
    if p.self_financing and _conflicts(replace(p, self_financing=False), everything):
        # The conflict does not come from costs, and is named without them.
        p = replace(p, self_financing=False)
    conflict = list(error.conflict)
    if not _conflicts(p, conflict):
        return f"the named conflict {conflict} is none"
    for name in conflict:
        if _conflicts(p, [other for other in conflict if other != name]):
            return f"the conflict {conflict} stands without {name}"
    sizes = {c.name: c.size for c in p.constraints.constraints}
    trackers = {c.name for c in p.constraints.constraints if isinstance(c, TrackingError)}
    scores = {c.name for c in p.constraints.constraints if isinstance(c, EsgFloor)}
    linear = {name: sides for name, sides in error.relaxation.items() if name not in trackers}
    relaxed = _relaxed(p, error.relaxation)
    if _conflicts(relaxed, everything, 10.0 * TOLERANCE):
        return f"the relaxation {error.relaxation} does not help"
    least = least_total(p)
    stated = sum(sum(sides) / sizes[name] for name, sides in linear.items())
    if not scores & linear.keys() and abs(least - stated) > 1e-6:
        return f"the relaxation is {stated:.3g} in total, {least:.3g} is enough"
    if scores & linear.keys() and stated < least - 1e-6:
        return f"the relaxation is {stated:.3g} in total, less than the least {least:.3g}"
    return ""


def _conflicts(p: Problem, wanted: list[str], tolerance: float = TOLERANCE) -> bool:
    if least_total(p, wanted) > tolerance:
        return True
    return least_excess(p, wanted) > tolerance


def _relaxed(p: Problem, relaxation: dict[str, tuple[float, float]]) -> Problem:
    """The problem with its constraints relaxed as stated."""
    changed = []
    for c in p.constraints.constraints:
        low, high = relaxation.get(c.name, (0.0, 0.0))
        changed.append(_moved(c, low, high) if low or high else c)
    return replace(p, constraints=ConstraintSet(tuple(changed)))


def _moved(c: Constraint, low: float, high: float) -> Constraint:
    more = 1e-9
    if isinstance(c, Turnover | TrackingError):
        return _set(c, limit=c.limit + high + more)
    if isinstance(c, Liquidity):
        return _set(c, share=c.share + high + more)
    if isinstance(c, EsgFloor):
        return _set(c, floor=c.floor - low - 100.0 * more)
    lower, upper = getattr(c, "lower", None), getattr(c, "upper", None)
    return _set(
        c,
        lower=lower if lower is None or not low else lower - low - more,
        upper=upper if upper is None or not high else upper + high + more,
    )


def _set(c: Constraint, **values: Any) -> Constraint:
    """A copy with other numbers, unchecked: a relaxed side may leave its range."""
    copied = object.__new__(type(c))
    for name, value in (vars(c) | values).items():
        object.__setattr__(copied, name, value)
    return copied


def _penalty(rng: np.random.Generator) -> float | None:
    return float(rng.choice([0.001, 0.01, 1.0])) if rng.random() < 0.25 else None


def _some(rng: np.random.Generator, names: list[str]) -> list[str]:
    return list(rng.choice(names, size=int(rng.integers(1, len(names) + 1)), replace=False))


def _sides(rng: np.random.Generator, most: float) -> dict[str, float]:
    low, high = np.sort(rng.uniform(0.0, most, 2)).round(3).tolist()
    return [{"upper": high}, {"lower": low}, {"lower": low, "upper": high}][int(rng.integers(3))]


def _position(rng: np.random.Generator, names: list[str], name: str) -> Constraint:
    chosen = names if rng.random() < 0.3 else [str(a) for a in _some(rng, names)]
    most = 2.0 / len(names) if rng.random() < 0.7 else 0.6
    return PositionLimit(
        name=name, assets=tuple(chosen), penalty=_penalty(rng), **_sides(rng, min(most, 1.0))
    )


def _group(rng: np.random.Generator, names: list[str], name: str) -> Constraint:
    chosen = [str(a) for a in _some(rng, names)]
    return GroupLimit(name=name, assets=tuple(chosen), penalty=_penalty(rng), **_sides(rng, 0.9))


def _factor(rng: np.random.Generator, names: list[str], name: str) -> Constraint:
    loadings = tuple((str(a), float(rng.normal())) for a in _some(rng, names))
    low, high = np.sort(rng.normal(0.0, 0.4, 2)).tolist()
    return FactorExposure(
        name=name, loadings=loadings, lower=low, upper=high, penalty=_penalty(rng)
    )


def _tracking(rng: np.random.Generator, names: list[str], name: str) -> Constraint:
    shares = rng.dirichlet(np.full(len(names), 0.7)).tolist()
    weights = tuple(zip(names, shares, strict=True))
    penalty = float(rng.choice([1.0, 10.0])) if rng.random() < 0.3 else None
    limit = float(rng.uniform(0.005, 0.2))
    return TrackingError(
        name=name, benchmark=weights, limit=limit, periods_per_year=12.0, penalty=penalty
    )


def _esg(rng: np.random.Generator, names: list[str], name: str) -> Constraint:
    scores = tuple(zip(names, rng.uniform(20.0, 95.0, len(names)).tolist(), strict=True))
    cash = None if rng.random() < 0.5 else float(rng.uniform(30.0, 70.0))
    penalty = None if rng.random() < 0.75 else 1e-4
    floor = float(rng.uniform(40.0, 90.0))
    return EsgFloor(name=name, scores=scores, floor=floor, cash_score=cash, penalty=penalty)


def _turnover(rng: np.random.Generator, names: list[str], name: str) -> Constraint:
    return Turnover(name=name, limit=float(rng.uniform(0.0, 0.8)), penalty=_penalty(rng))


def _liquidity(rng: np.random.Generator, names: list[str], name: str) -> Constraint:
    volume = tuple((str(a), float(10.0 ** rng.uniform(5.0, 8.0))) for a in _some(rng, names))
    return Liquidity(name=name, volume=volume, portfolio_value=1e7, penalty=_penalty(rng))


def _cash(rng: np.random.Generator, names: list[str], name: str) -> Constraint:
    return CashBounds(name=name, penalty=_penalty(rng), **_sides(rng, 0.5))
