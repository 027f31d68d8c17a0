"""Another user of HiGHS in the same process may have asked for threads before."""

from __future__ import annotations

import subprocess
import sys

import pytest

# HiGHS refuses to run a solver that asks for another number of threads than the first one did.
CODE = """
import highspy, numpy as np
from sddp.lp import Arrays, LinearProgram, Status
import scipy.sparse as sp

def other(threads):
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", threads)
    highs.addVars(1, np.zeros(1), np.ones(1))
    return highs.run() == highspy.HighsStatus.kOk

def ours():
    arrays = Arrays(np.array([-1.0]), sp.csr_array(np.ones((1, 1))), np.array([-np.inf]),
                    np.array([0.5]), np.zeros(1), np.ones(1))
    program = LinearProgram(arrays)
    assert program.solve() is Status.OPTIMAL and abs(program.objective() + 0.5) < 1e-9
    return program

if {first}:
    ours()
    highspy.Highs.resetGlobalScheduler(True)
assert other({threads})
program = ours()
for number in range(3):
    program.set_column_bounds(np.zeros(1, np.int32), np.zeros(1), np.full(1, 0.1 * number))
    assert program.solve() is Status.OPTIMAL
    assert abs(program.objective() + 0.1 * number) < 1e-9
"""


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_that_others_asked_for_do_not_stop_us(threads, first):
    code = CODE.replace("{threads}", str(threads)).replace("{first}", str(first))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
