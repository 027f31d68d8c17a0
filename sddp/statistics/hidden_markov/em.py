"""Expectation maximization of one start, by hmmlearn; the only file that talks to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hmmlearn.base import ConvergenceMonitor
from hmmlearn.hmm import GaussianHMM

from sddp.arrays import Floats, Ints
from sddp.statistics.hidden_markov.hmm import (
    DegenerateStart,
    EMResult,
    EMSettings,
    Parameters,
    covariance_penalty,
)

# Rounding moves a likelihood of some thousands by less than this between two EM steps; a larger
# fall means that a covariance became singular and hmmlearn propped it up.
LARGEST_FALL = 1e-6


class _History(ConvergenceMonitor):  # type: ignore[misc]
    """Convergence monitor of hmmlearn that raises instead of logging."""

    def report(self, log_prob: float) -> None:
        if self.history and log_prob < self.history[-1] - LARGEST_FALL:
            raise DegenerateStart(f"likelihood fell by {self.history[-1] - log_prob:.2g}")
        self.history.append(float(log_prob))
        self.iter += 1

    @property
    def small_gain(self) -> bool:
        return len(self.history) >= 2 and self.history[-1] - self.history[-2] < self.tol


class _PenalizedHMM(GaussianHMM):  # type: ignore[misc]
    """GaussianHMM whose monitor receives the penalized likelihood."""

    penalty: Callable[[Floats], float]

    def _compute_lower_bound(self, curr_logprob: float) -> float:
        return curr_logprob + self.penalty(self._covars_)

    def _do_mstep(self, stats: dict[str, Any]) -> None:
        super()._do_mstep(stats)
        if (self.transmat_.sum(axis=1) == 0.0).any():
            raise DegenerateStart("no transition out of a regime")


def run_em(
    observations: Floats, lengths: Ints, start: Parameters, settings: EMSettings
) -> EMResult:
    """Climb from `start` to the nearest maximum of the penalized likelihood.

    Parameters
    ----------
    observations : array, shape (n, d)
        Best standardized: hmmlearn adds an absolute 1e-7 to a covariance it cannot factorize.
    lengths : array of int
        Row counts of the independent sequences.
    start : Parameters
    settings : EMSettings

    Raises
    ------
    DegenerateStart
        A regime lost all its rows, a covariance became singular, or the likelihood fell.
    """
    try:
        return _climb(observations, lengths, start, settings, "scaling")
    except ValueError as error:
        # Densities of far outliers underflow in the fast recursion; logarithms do not.
        if "underflow" not in str(error):
            raise DegenerateStart("covariance not positive definite") from error
        return _climb(observations, lengths, start, settings, "log")


def _climb(
    observations: Floats,
    lengths: Ints,
    start: Parameters,
    settings: EMSettings,
    implementation: str,
) -> EMResult:
    model = _hmmlearn_model(start, settings, implementation)
    try:
        with np.errstate(divide="raise", invalid="raise"):
            model.fit(observations, lengths)
            posteriors = model.predict_proba(observations, lengths)
            np.linalg.cholesky(model.covars_)  # which hmmlearn would prop up in silence
    except FloatingPointError as error:
        raise DegenerateStart("a regime lost all its rows") from error
    except np.linalg.LinAlgError as error:
        raise DegenerateStart("covariance not positive definite") from error
    return EMResult(
        Parameters(model.startprob_, model.transmat_, model.means_, model.covars_),
        posteriors.sum(axis=0),
        np.array(model.monitor_.history),
        model.monitor_.small_gain,
    )


def _hmmlearn_model(start: Parameters, settings: EMSettings, implementation: str) -> _PenalizedHMM:
    # hmmlearn's M-step (hmm.py, full covariance) is
    #     (covars_prior + S_k) / (max(covars_weight - d, 0) + n_k),   S_k the scatter about the mean
    # as long as means_weight = 0; Dirichlet priors of 1 leave start and transitions alone. So
    # w rows of the prior covariance are covars_prior = w * covariance, covars_weight = d + w.
    prior, weight = settings.prior_covariance, settings.prior_observations
    model = _PenalizedHMM(
        n_components=len(start.means),
        covariance_type="full",
        startprob_prior=1.0,
        transmat_prior=1.0,
        means_prior=0.0,
        means_weight=0.0,
        covars_prior=weight * prior,
        covars_weight=len(prior) + weight,
        n_iter=settings.max_iterations,
        tol=settings.tolerance,
        init_params="",
        implementation=implementation,
    )
    model.penalty = lambda covariances: covariance_penalty(covariances, prior, weight)
    model.monitor_ = _History(settings.tolerance, settings.max_iterations, verbose=False)
    model.startprob_, model.transmat_ = start.start_probabilities, start.transition_matrix
    model.means_, model.covars_ = start.means, start.covariances
    return model
