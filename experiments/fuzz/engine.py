"""Train random problems, compare with the oracle, find those that are wrong without saying so."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import numpy as np

import sddp
from experiments.fuzz.instances import Instance, in_units, random_instance
from experiments.fuzz.oracle import Exact, exact_value
from experiments.fuzz.statement import stated_measure, stated_problem
from sddp.engine.certificate.certificate import Certificate
from sddp.engine.training.train import DEFAULT_STOPPING
from sddp.engine.value.cost_to_go import CutForm
from sddp.errors import InfeasibleProblem, SddpError

# Relative to max(|value|, largest stage cost on the optimal path).
ALLOWED = 1e-6

# Half of the problems are trained to the end, the others as far as the default goes.
STOPPING = sddp.BoundStalling(15, 1e-9) | sddp.Iterations(300)
CUT_FORMS: tuple[CutForm, ...] = (sddp.LazyAggregation(), sddp.MultiCut(), sddp.AverageCut())


@dataclass(frozen=True)
class Outcome:
    """What became of one problem.

    Attributes
    ----------
    number : int
    verdict : str
        ``agrees``; ``said`` (wrong, and a warning, an error or the certificate says so);
        ``wrong``; ``oracle failed``.
    error : float
        Bound minus value in the problem's sense, relative; positive on the side on which no bound
        may be.
    text : str
    """

    number: int
    verdict: str
    error: float
    text: str


def check(number: int, seed: int) -> Outcome:
    """Build, train and compare one problem, from random numbers of its own: it can be repeated."""
    rng = np.random.default_rng([seed, number])
    instance = random_instance(rng)
    cuts = CUT_FORMS[int(rng.integers(3))]
    start = time.process_time()
    try:
        exact = exact_value(instance)
    except ArithmeticError as error:
        return Outcome(number, "oracle failed", np.nan, str(error))
    measure = "entropic" if isinstance(instance.measure, float) else str(instance.measure)
    what = (
        f"{instance.kind}, {instance.n_states} states, {type(cuts).__name__}, {measure}, "
        f"{'max' if instance.maximizes else 'min'}, money {instance.money:.1e}, "
        f"units {' '.join(f'{u:.0e}' for u in instance.state_units)}"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = _trained(instance, cuts, rng)
        except InfeasibleProblem as error:
            verdict = "agrees" if exact is None else "wrong"
            return Outcome(number, verdict, np.nan, f"{what}: InfeasibleProblem {error}")
        except SddpError as error:
            return Outcome(number, "said", np.nan, f"{what}: {type(error).__name__} {error}")
    said = sorted({w.category.__name__ for w in caught})
    seconds = time.process_time() - start
    return _judged(number, instance, exact, found, said, f"{what}, {seconds:.1f} s")


def _trained(
    instance: Instance, cuts: CutForm, rng: np.random.Generator
) -> tuple[sddp.TrainingResult, Certificate]:
    problem = stated_problem(instance, in_units(instance, rng))
    measure = stated_measure(instance)
    stopping = STOPPING if rng.random() < 0.5 else DEFAULT_STOPPING
    result = sddp.train(
        problem,
        rng=np.random.default_rng(0),
        stopping=stopping,
        risk=measure,
        root_risk=measure if instance.root_risk else None,
        cuts=cuts,
        progress=False,
    )
    return result, result.certificate


def _judged(
    number: int,
    instance: Instance,
    exact: Exact | None,
    found: tuple[sddp.TrainingResult, Certificate],
    said: list[str],
    what: str,
) -> Outcome:
    result, certificate = found
    if exact is None:
        return Outcome(number, "wrong", np.inf, f"{what}: trained, but no policy is feasible")
    sign = -1.0 if instance.maximizes else 1.0
    size = max(abs(exact.value), exact.largest_cost)
    error = (sign * result.bound / instance.money - exact.value) / size
    inner = certificate.value
    text = (
        f"{what}: bound {result.bound!r}, value {sign * exact.value * instance.money!r} "
        f"({error:+.1e}); {len(result.log)} iterations, {result.stopped_because}; inner bound "
        f"{inner!r}; {said or 'no warning'}"
    )
    if error > ALLOWED:  # no bound may lie there, converged or not
        return Outcome(number, "wrong", error, text)
    if inner is not None:
        missed = (exact.value - sign * inner / instance.money) / size
        if missed > ALLOWED:
            return Outcome(number, "wrong", error, f"{text}: the inner bound is no bound")
    if error >= -ALLOWED:
        return Outcome(number, "agrees", error, text)
    gap = certificate.gap
    certified = gap is not None and gap / instance.money / size >= -error - ALLOWED
    open_end = "not certified" in result.stopped_because or "limit" in result.stopped_because
    excused = bool(said) or certified or open_end
    return Outcome(number, "said" if excused else "wrong", error, text)
