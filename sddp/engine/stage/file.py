"""The linear program of one stage as a file: in the user's names, units and sense.

What is written is the stage as it was declared, not the reduced and scaled program that the solver
holds: one incoming state, one noise, and behind the declared rows those that training added.
"""

from __future__ import annotations

import getpass
import hashlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats
from sddp.engine.stage.stage_data import StageData, arrays_at
from sddp.errors import ModelError, SolverError
from sddp.lp import Arrays, write_model

FORMATS = (".lp", ".mps")


@dataclass(frozen=True, eq=False)
class StageModel:
    """A stage at one noise, ready to be written: engine units (a minimization) and names."""

    arrays: Arrays
    column_names: list[str]
    row_names: list[str]
    sign: float
    n_theta: int = 0

    def with_rows(
        self, coefficients: Floats, lower: Floats, n_theta: int, theta_lower: float
    ) -> StageModel:
        """The same with rows ``coefficients @ columns >= lower`` that training added.

        Their columns are the declared ones and `n_theta` of the cost-to-go, the first of which is
        in the objective and at least `theta_lower`.
        """
        own, rest = self.arrays, max(n_theta - 1, 0)
        first, many = np.ones(min(n_theta, 1)), np.full(n_theta, np.inf)
        wider = sp.hstack([own.matrix, sp.csr_array((own.matrix.shape[0], n_theta))], format="csr")
        arrays = Arrays(
            np.concatenate([own.cost, first, np.zeros(rest)]),
            sp.csr_array(sp.vstack([wider, sp.csr_array(coefficients)], format="csr")),
            np.concatenate([own.row_lower, lower]),
            np.concatenate([own.row_upper, np.full(len(lower), np.inf)]),
            np.concatenate([own.column_lower, theta_lower * first, np.full(rest, -np.inf)]),
            np.concatenate([own.column_upper, many]),
            own.offset,
        )
        thetas = ["cost_to_go", *(f"cost_to_go[{i}]" for i in range(1, n_theta))][:n_theta]
        rows = self.row_names + added_row_names(coefficients, n_theta)
        return StageModel(arrays, self.column_names + thetas, rows, self.sign, n_theta)

    def write(self, path: Path) -> None:
        """Write in the user's sense: a maximization where the user maximizes.

        The cost-to-go columns are then the user's too: minus the engine's.
        """
        arrays = self.arrays
        if self.sign < 0.0:
            turned = np.ones(len(arrays.cost))
            turned[len(turned) - self.n_theta :] = -1.0
            lower, upper = arrays.column_lower.copy(), arrays.column_upper.copy()
            theta = slice(len(turned) - self.n_theta, None)
            lower[theta], upper[theta] = -arrays.column_upper[theta], -arrays.column_lower[theta]
            arrays = Arrays(
                -turned * arrays.cost,
                sp.csr_array(arrays.matrix * turned),
                arrays.row_lower,
                arrays.row_upper,
                lower,
                upper,
                -arrays.offset,
            )
        write_model(
            arrays,
            path,
            column_names=self.column_names,
            row_names=self.row_names,
            maximize=self.sign < 0.0,
        )


def stage_model(
    compiled: StageData,
    entries: Mapping[str, Floats],
    incoming: Floats | tuple[Floats, Floats] | None,
) -> StageModel:
    """The declared program at noise `entries`.

    The incoming state is fixed at `incoming`, within its two ends, or within declared bounds.
    """
    arrays = arrays_at(compiled, entries)
    lower, upper = arrays.column_lower.copy(), arrays.column_upper.copy()
    if incoming is not None:
        ends = incoming if isinstance(incoming, tuple) else (incoming, incoming)
        lower[compiled.incoming], upper[compiled.incoming] = ends
    arrays = replace(arrays, column_lower=lower, column_upper=upper)
    return StageModel(arrays, list(compiled.column_names), list(compiled.row_names), compiled.sign)


def added_row_names(coefficients: Floats, n_theta: int) -> list[str]:
    """``cut[3]`` bounds the cost-to-go; ``row[4]`` is a feasibility cut or a generated row."""
    cuts = np.any(coefficients[:, coefficients.shape[1] - n_theta :], axis=1)
    return [f"{'cut' if cut else 'row'}[{i}]" for i, cut in enumerate(cuts)]


def checked_path(path: str | PathLike[str]) -> Path:
    """A path whose ending says the format.

    Raises
    ------
    ModelError
        It ends neither in ``.lp`` nor in ``.mps``.
    """
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        raise ModelError(f"path={str(path)!r}: must end in .lp or .mps; the ending says the format")
    return target


def write_failure(model: StageModel, label: str) -> str:
    """Write a model that failed to a folder of temporary files; its path, or why there is none.

    The name follows from label and content: the same failure, met again or in another process,
    writes the same file.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"sddp-{_user()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        stem = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_")[:80]
        target = folder / f"{stem}-{_digest(model)}.lp"
        with tempfile.NamedTemporaryFile(suffix=".lp", dir=folder, delete=False) as file:
            beside = Path(file.name)
        model.write(beside)
        beside.replace(target)
    except (OSError, SolverError) as error:  # never in the place of the failure itself
        return f"(not written: {error})"
    return str(target)


def _user() -> str:
    try:
        return re.sub(r"[^A-Za-z0-9]+", "_", getpass.getuser())
    except (OSError, KeyError):  # no name in the environment and none in the user database
        return "unnamed"


def _digest(model: StageModel) -> str:
    arrays = model.arrays
    digest = hashlib.sha256()
    for part in (
        arrays.cost,
        arrays.matrix.data,
        arrays.matrix.indices,
        arrays.matrix.indptr,
        arrays.row_lower,
        arrays.row_upper,
        arrays.column_lower,
        arrays.column_upper,
    ):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:12]
