"""Every rule in every setting, along the same paths, and the tables made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from experiments.horizon.config import TERMS, Config, Purpose, Setting
from sddp.allocation.model import AllocationModel
from sddp.allocation.training import train_allocation
from sddp.arrays import Floats
from sddp.bounds import (
    FrictionlessPolicy,
    controlled_wealth,
    factor_grid,
    information_relaxation,
    laws_along,
    solve_frictionless,
    value_differences,
)
from sddp.bounds.one_step import best_holdings, held_rewards, myopic_rewards, planned
from sddp.engine.training.stopping import Iterations
from sddp.estimation.process_regimes import fit_regimes, histories
from sddp.evaluation.estimates import mean_interval
from sddp.evaluation.rollout import PolicyRule, Rule, rollout
from sddp.evaluation.rollouts.dues import follow_with_dues, planned_rule, policy_rule
from sddp.labels import CASH
from sddp.scenarios import MarkovScenarios
from sddp.statistics import (
    ReturnAutoregression,
    ReturnPaths,
    brown_smith,
    fit_autoregression,
    sobol_normal,
)
from sddp.studies.streams import stream
from sddp.studies.tasks import Task, TaskPool

MULTI, ONE_STEP, HELD = "multi-stage", "one step", "held to the horizon"
PLANNED, BOUND = "model-predictive control", "upper bound"
# Rules of one linear program a decision.
SIMPLE = (ONE_STEP, HELD, PLANNED)
POLICIES = (MULTI, *SIMPLE)
N_NODES = 32
# An estimated factor has no long run above it.
LARGEST_PERSISTENCE = 0.995


def truth_of(setting: Setting) -> ReturnAutoregression:
    """The process with another half-life, returns as predictable in a month as the paper's."""
    paper = brown_smith()
    before, persistence = float(paper.factor_transition[0, 0]), 0.5 ** (1.0 / setting.half_life)
    if abs(persistence - before) < 1e-4:  # the paper's own half-life, rounded
        return paper
    ratio = np.sqrt((1.0 - persistence**2) / (1.0 - before**2))
    scale = np.append(np.ones(paper.n_assets), ratio)
    return replace(
        paper,
        factor_transition=np.array([[persistence]]),
        covariance=paper.covariance * np.outer(scale, scale),
    )


def believed(config: Config, setting: Setting, draw: int) -> ReturnAutoregression:
    """What the rules take the process to be: the truth, or an estimate from some months."""
    truth = truth_of(setting)
    if setting.months == 0:
        return truth
    data = truth.simulate(1, setting.months, rng=stream(config.seed, Purpose.DATA, draw))
    found = fit_autoregression(data)
    size = min(abs(float(found.factor_transition[0, 0])), LARGEST_PERSISTENCE)
    kept = np.sign(found.factor_transition) * size
    return replace(found, factor_transition=kept)


def program_of(config: Config, process: ReturnAutoregression, cost_free: bool) -> Any:
    """The program without costs: its law and limit, and with `cost_free` its values too."""
    return solve_frictionless(
        process,
        process.shocks(config.law_points, rng=stream(config.seed, Purpose.LAW)),
        factor_grid(process, config.n_grid if cost_free else 5),
        n_decisions=config.n_decisions if cost_free else 1,
        cvar_limit=config.cvar_limit,
        cvar_confidence=config.confidence,
        expectation=process.quadrature(N_NODES),
    )


def cell(config: Config, setting: Setting, draw: int) -> dict[str, Floats]:
    """Terminal wealth of each rule along the paths of one replicate, less the control variate."""
    truth, belief = truth_of(setting), believed(config, setting, draw)
    n = config.n_decisions
    paths = truth.simulate(
        config.n_paths, n, rng=stream(config.seed, Purpose.PATHS, draw), start=np.zeros(1)
    )
    start = np.array(config.invested if setting.start == "invested" else (1.0, 0.0, 0.0, 0.0))
    true_program = program_of(config, truth, cost_free=True)
    law = program_of(config, belief, cost_free=False)
    few = _first(paths, config.n_few)
    rules: dict[str, tuple[Rule, ReturnPaths]] = {
        MULTI: (_multi_stage(config, setting, belief, draw, paths, start), paths),
        ONE_STEP: (_simple(ONE_STEP, law, setting.cost, paths, n), paths),
        HELD: (_simple(HELD, law, setting.cost, paths, n), paths),
        PLANNED: (_simple(PLANNED, law, setting.cost, few, n), few),
    }
    nodes = truth.quadrature(N_NODES)
    found = {}
    for name, (rule, own) in rules.items():
        run = rollout(rule, own.excess_returns, n, start=start)
        differences = value_differences(true_program, own, nodes)
        found[name] = controlled_wealth(run.terminal, run.holdings, differences)
        found[f"{name}, risk"] = _risk(true_program, own, run.holdings, run.wealth, config)
    found[BOUND] = information_relaxation(
        few.excess_returns[:, :n],
        laws_along(true_program, few),
        value_differences(true_program, few, nodes),
        transaction_cost=setting.cost,
        cvar_limit=config.cvar_limit,
        initial_holdings=start,
    )
    return found


def _first(paths: ReturnPaths, n: int) -> ReturnPaths:
    return ReturnPaths(paths.log_returns[:n], paths.factors[:n], paths.cash_return)


def _simple(name: str, law: FrictionlessPolicy, cost: float, paths: ReturnPaths, n: int) -> Rule:
    """A rule of one linear program a decision, under the law and limit of a program."""

    def rule(stage: int, before: Floats) -> Floats:
        factors = paths.factors[:, stage, 0]
        if name == PLANNED:
            return planned(before, factors, law, cost, n - stage)
        if name == HELD:
            return best_holdings(
                before, factors, held_rewards(law.process, factors, n - stage), law, cost
            )
        return best_holdings(before, factors, myopic_rewards(law.process, factors), law, cost)

    return rule


def _multi_stage(
    config: Config,
    setting: Setting,
    belief: ReturnAutoregression,
    draw: int,
    paths: ReturnPaths,
    start: Floats,
) -> Rule:
    """A policy trained on regimes of the believed process, as in the paper."""

    def rng(purpose: Purpose) -> np.random.Generator:
        return stream(config.seed, purpose, draw)

    past = histories(
        belief,
        config.n_histories,
        config.n_history,
        n_discarded=config.n_history,
        rng=rng(Purpose.HISTORIES),
    )
    regimes = fit_regimes(past, config.n_states, "same date", rng=rng(Purpose.FIT))
    beliefs = regimes.beliefs(paths, config.n_decisions)
    scenarios = regimes.scenarios(
        config.n_scenarios, config.n_decisions, rng=rng(Purpose.SCENARIOS)
    )
    policy = train_allocation(
        AllocationModel(
            transaction_cost=setting.cost,
            cvar_confidence=config.confidence,
            cvar_limit=config.cvar_limit,
        ),
        scenarios,
        initial_holdings=dict(zip((CASH, *(scenarios.asset_names or ())), start, strict=True)),
        initial_regime=int(beliefs[0, 0].argmax()),
        stopping=Iterations(config.iterations),
        rng=rng(Purpose.TRAINING),
        progress=False,
    ).policy
    return PolicyRule([policy], beliefs, np.zeros(config.n_paths, dtype=np.int64))


def _risk(
    program: FrictionlessPolicy,
    paths: ReturnPaths,
    holdings: Floats,
    wealth: Floats,
    config: Config,
) -> Floats:
    """True one-period CVaR over the limit, cost of the trade included, by path: mean of stages."""
    ratios = np.empty(holdings.shape[:2])
    for p, t in np.ndindex(*ratios.shape):
        loss = program.law_at(float(paths.factors[p, t, 0])).cvar(holdings[p, t, 1:])
        paid = wealth[p, t] - holdings[p, t].sum()
        ratios[p, t] = (loss + paid) / (config.cvar_limit * wealth[p, t])
    means: Floats = ratios.mean(axis=1)
    return means


def run(config: Config, pool: TaskPool) -> dict[str, pd.DataFrame]:
    """All replicates of all settings; the tables by name."""
    keys = [(s, draw) for s in config.settings for draw in range(config.n_draws)]
    tasks = [Task(cell, (config, s, draw), [config, s, draw]) for s, draw in keys]
    answers = dict(zip(keys, pool.run("setting", tasks), strict=True))
    by_setting = {s: [answers[s, d] for d in range(config.n_draws)] for s in config.settings}
    asked = [Task(with_terms, (config, name), [config, name]) for name in TERMS]
    return {
        "gains": gains(by_setting),
        "differences": differences(by_setting),
        "terms": pd.concat(pool.run("term", asked), ignore_index=True),
    }


def with_terms(config: Config, name: str) -> pd.DataFrame:
    """Rules under terms that a rule of one decision does not look at; the truth is the model's.

    Two assets, whose means change at different speeds; mean value less that of cash, in percent of
    the initial wealth, and the share of paths with a shortfall.
    """
    model = AllocationModel(
        transaction_cost=config.costs[len(config.costs) // 2],
        cvar_confidence=config.confidence,
        cvar_limit=config.cvar_limit,
        **TERMS[name],
    )
    policy = train_allocation(
        model,
        _two_speeds(config),
        initial_holdings={CASH: 1.0},
        initial_regime=0,
        stopping=Iterations(config.term_iterations),
        rng=stream(config.seed, Purpose.TRAINING),
        progress=False,
    ).policy
    problem, cash = policy.problem, policy.problem.cash_value
    rules = {
        MULTI: policy_rule(policy),
        ONE_STEP: planned_rule(problem, held=True, n_ahead=1),
        HELD: planned_rule(problem, held=True),
        PLANNED: planned_rule(problem, held=False),
    }
    runs = {
        rule: follow_with_dues(
            own, problem, n_paths=config.term_paths, rng=stream(config.seed, Purpose.PATHS)
        )
        for rule, own in rules.items()
    }
    rows = []
    for rule, run in runs.items():
        row = {"terms": name, "rule": rule, "paths": config.term_paths}
        row |= _interval(100.0 * (run.value - cash), "gain")
        row["shortfall_probability"] = float((run.shortfall > 1e-9).mean())
        if rule != MULTI:
            row |= _interval(100.0 * (runs[MULTI].value - run.value), "below_multi_stage")
        rows.append(row)
    return pd.DataFrame(rows).assign(bound=100.0 * (policy.bound - cash))


def _two_speeds(config: Config) -> MarkovScenarios:
    """Means of two assets that turn from good to bad after 1.5 and 10 months on average."""
    slow, fast = (np.array([[1.0 - p, p], [p, 1.0 - p]]) for p in (0.1, 2.0 / 3.0))
    means = [(a, b) for a in (0.012, -0.008) for b in (0.02, -0.016)]
    noise = sobol_normal(
        np.zeros(2),
        np.array([[0.0016, 0.0004], [0.0004, 0.0016]]),
        config.term_scenarios,
        rng=stream(config.seed, Purpose.SCENARIOS),
    )
    noise -= noise.mean(axis=0)
    returns = np.array([noise + np.array(mean) for mean in means])
    return MarkovScenarios(
        returns, np.kron(slow, fast), n_stages=config.term_stages, asset_names=["slow", "fast"]
    )


Found = Mapping[Setting, Sequence[Mapping[str, Floats]]]


def gains(found: Found) -> pd.DataFrame:
    """Mean gain over cash to the horizon with its interval over replicates, in percent."""
    rows = []
    for setting, draws in found.items():
        for name in (*POLICIES, BOUND):
            gain = [100.0 * (float(own[name].mean()) - 1.0) for own in draws]
            row = asdict(setting) | {"rule": name} | _interval(gain, "gain")
            if name != BOUND:
                row["risk_over_limit"] = float(np.mean([own[f"{name}, risk"] for own in draws]))
            rows.append(row)
    return pd.DataFrame(rows)


def differences(found: Found) -> pd.DataFrame:
    """Multi-stage less each other rule on the same paths, in percentage points of wealth."""
    rows = []
    for setting, draws in found.items():
        means = {name: np.mean([own[name].mean() for own in draws]) for name in SIMPLE}
        best = max(means, key=lambda name: float(means[name]))
        for name in SIMPLE:
            apart = [
                100.0 * float((own[MULTI][: len(own[name])] - own[name]).mean()) for own in draws
            ]
            row = asdict(setting) | {"less": name, "best_rule": name == best}
            rows.append(row | _interval(apart, "difference"))
    return pd.DataFrame(rows)


def _interval(values: ArrayLike, name: str) -> dict[str, float]:
    known = mean_interval(values)
    return {name: known.mean, f"{name}_low": known.low, f"{name}_high": known.high}
