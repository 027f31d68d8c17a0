"""How fast simulations and equilibria are: process-CPU seconds of one core."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sddp.portfolio import MeanVariance, Moments
from sddp.simulation import (
    Agent,
    FixedWeights,
    Impact,
    ImpactMarket,
    NormalLaw,
    PotentialGame,
    RegimeLaw,
    ScenarioLaw,
    StudentLaw,
    cvar_contributions,
    outcomes_with_others,
    risk_figures,
    simulate_portfolio,
)
from sddp.statistics import Regimes

# Seconds that were asked for, by measurement.
ASKED = {
    "normal, paths": 2.0,
    "Student-t, paths": 3.0,
    "regimes, paths": 3.0,
    "daily threshold rebalancing": 5.0,
    "a million scenarios of ten assets": 4.0,
    "figures and contributions of a million": 1.0,
    "equilibrium of 50 agents, 20 assets": 0.2,
    "10,000 equilibria of 10 agents, 20 assets": 60.0,
}


def measure(name: str, scale: int, seed: int) -> dict[str, Any]:
    """Seconds and memory of one measurement; sizes are divided by `scale`."""
    before = _peak()
    run = _work(name, scale, seed)
    started = time.process_time()
    run()
    seconds = time.process_time() - started
    return {"what": name, "seconds": seconds, "asked": ASKED[name], "peak_mb": _peak() - before}


def two_workers(scale: int, seed: int) -> dict[str, Any]:
    """Elapsed seconds with one and with two workers, best of three each: needs two free cores."""
    seconds: dict[int, float] = {}
    for n_jobs in (1, 2) * 3:
        run = _followed(
            _law("normal, paths", 100), 20_000 // scale, 30, None, seed, paths=True, n_jobs=n_jobs
        )
        started = time.perf_counter()
        run()
        elapsed = time.perf_counter() - started
        seconds[n_jobs] = min(elapsed, seconds.get(n_jobs, elapsed))
    return {"one": seconds[1], "two": seconds[2], "speed_up": seconds[1] / seconds[2], "asked": 1.6}


def _work(name: str, scale: int, seed: int) -> Callable[[], object]:
    if name in ("normal, paths", "Student-t, paths", "regimes, paths"):
        return _followed(_law(name, 100), 10_000 // scale, 30, None, seed, paths=True)
    if name == "daily threshold rebalancing":
        law = _law("normal, paths", 100)
        return _followed(law, 10_000 // scale, 30, 0.0005, seed, paths=True)
    if name == "a million scenarios of ten assets":
        return _followed(_law("normal, paths", 10), 1_000_000 // scale, 1, None, seed, paths=False)
    if name == "figures and contributions of a million":
        gains = np.random.default_rng(seed).standard_normal((1_000_000 // scale, 10))
        return lambda: (
            risk_figures(-gains.sum(axis=1)),
            cvar_contributions(gains, range(10), confidence=0.95),
        )
    if name.startswith("equilibrium"):
        one = _market(50, 20, seed)
        return lambda: PotentialGame(one).solve()
    market = _market(10, 20, seed)
    noise: dict[str, Any] = {
        "noise": 0.01,
        "alikeness": 0.3,
        "rng": seed,
        "n_scenarios": 10_000 // scale,
    }
    law = NormalLaw(
        mean=market.moments.mean, covariance=market.moments.covariance, returns="simple"
    )
    weights = dict.fromkeys(market.assets, 1.0 / len(market.assets))
    return lambda: outcomes_with_others(weights, law, market, **noise)


def _law(name: str, n: int) -> ScenarioLaw:
    root = np.random.default_rng(0).standard_normal((n, n)) * 1e-3
    covariance, mean = root @ root.T + 1e-8 * np.eye(n), np.zeros(n)
    if name == "normal, paths":
        return NormalLaw(mean=mean, covariance=covariance, returns="simple")
    if name == "Student-t, paths":
        return StudentLaw(
            mean=mean, covariance=covariance, degrees_of_freedom=4.0, returns="simple"
        )
    covariances = np.array([covariance, 2.0 * covariance, 4.0 * covariance])
    chain, start = np.full((3, 3), 1.0 / 3.0), np.full(3, 1.0 / 3.0)
    return RegimeLaw(Regimes(np.zeros((3, n)), covariances, chain, start), start)


def _followed(
    law: ScenarioLaw,
    n_scenarios: int,
    n_periods: int,
    threshold: float | None,
    seed: int,
    *,
    paths: bool,
    n_jobs: int = 1,
) -> Callable[[], object]:
    weights = dict.fromkeys(law.names, 1.0 / len(law.names))
    return lambda: simulate_portfolio(
        FixedWeights(weights, threshold=threshold),
        law,
        n_scenarios=n_scenarios,
        n_periods=n_periods,
        rng=seed,
        transaction_cost=0.001,
        paths=paths,
        n_jobs=n_jobs,
    )


def _market(count: int, n: int, seed: int) -> ImpactMarket:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n + 2))
    moments = Moments.of(rng.normal(0.03, 0.03, n), 0.01 * root @ root.T)
    model = MeanVariance(risk_aversion=3.0, self_financing=False, transaction_cost=0.002)
    agents = [
        Agent(name=k, share=1.0 / count, optimizer=model, current=rng.dirichlet(np.ones(n + 1))[:n])
        for k in range(count)
    ]
    return ImpactMarket(moments, Impact(alpha=0.1, permanent=0.3), agents)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
