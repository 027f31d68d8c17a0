"""The monthly model of Brown and Smith (2011) with the constants of the paper's code."""

from __future__ import annotations

import numpy as np

from sddp.statistics.autoregression import ReturnAutoregression

COVARIANCE = np.array(
    [
        [0.002894, 0.003532, 0.003910, -0.000115],
        [0.003532, 0.004886, 0.005712, -0.000144],
        [0.003910, 0.005712, 0.007259, -0.000163],
        [-0.000115, -0.000144, -0.000163, 0.0529],
    ]
)
PROCESS = ReturnAutoregression(
    return_intercepts=np.array([0.0053, 0.0067, 0.0072]),
    return_loadings=np.array([[0.0028], [0.0049], [0.0061]]),
    factor_intercepts=np.array([0.0]),
    factor_transition=np.array([[0.97]]),
    covariance=COVARIANCE,
    cash_return=0.00042,
)
