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
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats, Ints
from sddp.engine.model.stage_data import StageData, arrays_at
from sddp.engine.subproblem.lazy_constraints import RowTable
from sddp.errors import ModelError
from sddp.lp import Arrays, write_model

FORMATS = (".lp", ".mps")


@dataclass(frozen=True, eq=False)
class AddedRows:
    """Rows ``coefficients @ columns >= lower``: declared columns, then those of the cost-to-go.

    `theta_lower` is the lower bound of the first cost-to-go column, which is in the objective.
    """

    coefficients: Floats
    lower: Floats
    n_theta: int
    theta_lower: float

    @classmethod
    def of(cls, table: RowTable, kept: Ints, n_columns: int, theta_lower: float) -> AddedRows:
        """Rows of an LP whose first columns are the declared ones at `kept`."""
        n_theta = table.coefficients.shape[1] - len(kept)
        coefficients = np.zeros((len(table), n_columns + n_theta))
        coefficients[:, kept] = table.coefficients[:, : len(kept)]
        coefficients[:, n_columns:] = table.coefficients[:, len(kept) :]
        return cls(coefficients, table.lower, n_theta, theta_lower)

    @property
    def names(self) -> list[str]:
        """``cut[3]`` bounds the cost-to-go; ``row[4]`` is a feasibility cut or a generated row."""
        theta = self.coefficients[:, self.coefficients.shape[1] - self.n_theta :]
        cuts = np.any(theta, axis=1)
        return [f"{'cut' if cuts[i] else 'row'}[{i}]" for i in range(len(cuts))]

    @property
    def theta_names(self) -> list[str]:
        """``cost_to_go``, and one more for each outcome where cuts are kept by outcome."""
        return ["cost_to_go", *(f"cost_to_go[{i}]" for i in range(1, self.n_theta))][: self.n_theta]


@dataclass(frozen=True, eq=False)
class StageModel:
    """A stage at one noise, ready to be written: engine units (a minimization) and names."""

    arrays: Arrays
    column_names: list[str]
    row_names: list[str]
    sign: float
    n_theta: int = 0

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
    added: AddedRows | None = None,
) -> StageModel:
    """The declared program at noise `entries`.

    The incoming state is fixed at `incoming`, within its two ends, or within declared bounds.
    """
    arrays = arrays_at(compiled, entries)
    lower, upper = arrays.column_lower.copy(), arrays.column_upper.copy()
    if incoming is not None:
        ends = incoming if isinstance(incoming, tuple) else (incoming, incoming)
        lower[compiled.incoming], upper[compiled.incoming] = ends
    cost, matrix = arrays.cost, arrays.matrix
    row_lower, row_upper = arrays.row_lower, arrays.row_upper
    columns, rows = list(compiled.column_names), list(compiled.row_names)
    n_theta = 0
    if added is not None:
        n_theta = added.n_theta
        rest = max(n_theta - 1, 0)
        cost = np.concatenate([cost, np.ones(min(n_theta, 1)), np.zeros(rest)])
        lower = np.concatenate(
            [lower, np.full(min(n_theta, 1), added.theta_lower), np.full(rest, -np.inf)]
        )
        upper = np.concatenate([upper, np.full(n_theta, np.inf)])
        wider = sp.hstack([matrix, sp.csr_array((matrix.shape[0], n_theta))], format="csr")
        matrix = sp.vstack([wider, sp.csr_array(added.coefficients)], format="csr")
        row_lower = np.concatenate([row_lower, added.lower])
        row_upper = np.concatenate([row_upper, np.full(len(added.lower), np.inf)])
        columns, rows = columns + added.theta_names, rows + added.names
    whole = Arrays(cost, sp.csr_array(matrix), row_lower, row_upper, lower, upper, arrays.offset)
    return StageModel(whole, columns, rows, compiled.sign, n_theta)


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
    except OSError as error:
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
