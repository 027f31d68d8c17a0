"""Multi-stage asset allocation under risk limits, trading costs and market regimes, by SDDP.

Names are imported when they are first used, so that ``import sddp`` costs nothing and Pyomo and
HiGHS are loaded only where a stage is built.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "sddp.allocation.model": ("AllocationModel",),
    "sddp.allocation.policy": ("AllocationPolicy", "load_allocation_policy"),
    "sddp.allocation.problem": ("allocation_problem",),
    "sddp.allocation.training": ("train_allocation",),
    "sddp.backtest": (
        "BacktestResult",
        "Cell",
        "OneStageStrategy",
        "MultistageStrategy",
        "run_study",
    ),
    "sddp.estimation": ("RegimeEstimator",),
    "sddp.market": ("Market",),
    "sddp.engine.certificate.certificate": ("Certificate",),
    "sddp.engine.value.cut_forms": ("AverageCut", "LazyAggregation", "MultiCut"),
    "sddp.engine.value.cut_selection": ("RecentlyLargest",),
    "sddp.engine.policy.extensive_form": ("extensive_form",),
    "sddp.engine.model.graph": ("Graph", "Node", "linear_graph", "markov_graph"),
    "sddp.engine.policy.policy": ("Policy", "load_policy"),
    "sddp.engine.model.problem": ("Problem",),
    "sddp.engine.model.risk_adjusted": ("RiskAdjusted",),
    "sddp.engine.model.sampling": ("Historical", "InSample", "OutOfSample", "Step"),
    "sddp.engine.training.result": ("TrainingResult",),
    "sddp.engine.training.schedules": ("SinglePathFirst", "Tolerances"),
    "sddp.engine.stage.declaration": ("InitialCut", "Noise", "RowGenerator", "Stage", "State"),
    "sddp.engine.training.stopping": (
        "BoundStalling",
        "Gap",
        "Iterations",
        "PolicyStability",
        "Seconds",
        "Statistical",
    ),
    "sddp.engine.training.train": ("start_training", "train"),
    "sddp.engine.training.trial_points": ("AveragedDecisions", "Decisions"),
    "sddp.engine.training.workers": ("Processes",),
    "sddp.engine.stage.transition": ("LinearTransition",),
    "sddp.one_call": ("allocate",),
    "sddp.portfolio": ("CVaRMatched", "MeanVariance", "VolatilityDriven"),
    "sddp.risk": ("AVaR", "CVaR", "Entropic", "Expectation", "WorstCase"),
    "sddp.robust_risk": ("ModifiedChiSquared", "NoiseDistance", "Wasserstein"),
    "sddp.scenarios": ("MarkovScenarios",),
    "sddp.statistics": ("FactorModel", "GaussianRegimes", "choose_n_states", "markov_scenarios"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'sddp' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
