"""A strategy that keeps a decision_log like those of models, without a model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd


@dataclass
class Modeled:
    """Holds `share` of the first asset; beliefs and risk forecasts are drawn from `seed`."""

    seed: int
    share: float = 0.8
    limit: float = 0.02
    confidence: float = 0.9
    n_regimes: int = 3
    decision_log: list[dict] = field(default_factory=list)

    def decide(self, view, holdings):
        rng = np.random.default_rng([self.seed, len(self.decision_log)])
        var = rng.uniform(0.01, 0.02)
        beliefs = rng.dirichlet(np.ones(self.n_regimes))
        self.decision_log.append(
            {
                "date": view.date,
                "stage": 0,
                "refit": len(self.decision_log) % 5 == 0,
                "model_var": var,
                "model_cvar": var + 0.005,
                "confidence": self.confidence,
                "cvar_limit": self.limit,
                "limit_binds": var > 0.015,
                "failure": "no fit" if len(self.decision_log) == 7 else "",
                "seconds": 0.5,
                **{f"regime {k + 1}": p for k, p in enumerate(beliefs)},
            }
        )
        return pd.Series({view.assets[0]: self.share})

    def decision_log_table(self):
        return pd.DataFrame(self.decision_log).set_index("date")
