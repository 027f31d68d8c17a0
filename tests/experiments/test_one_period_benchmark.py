"""The benchmark of one-period optimizers runs and relates its times to PIQP's."""

from __future__ import annotations

import pytest

from experiments.benchmarks import one_period


@pytest.mark.slow
def test_every_measurement_has_a_time_and_those_asked_for_are_compared():
    rows = {row["what"]: row for row in one_period.measure(10, 2, 1)["rows"] if row["what"]}
    assert {name for name, sizes in one_period.ASKED.items() if 10 in sizes} <= set(rows)
    assert rows["PIQP alone"]["of PIQP"] == 1.0
    assert all(row["milliseconds"] > 0.0 for row in rows.values())
    qp = rows["prepared QP"]
    scaled = 0.2 * rows["PIQP alone"]["milliseconds"] / 0.06
    assert qp["of asked"] == pytest.approx(qp["milliseconds"] / scaled)
