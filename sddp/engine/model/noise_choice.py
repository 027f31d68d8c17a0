"""How a caller names the noise of a node: a position in its support or parameter values."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral

from sddp.arrays import Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.stage.stage_data import StageData, noise_values
from sddp.errors import ModelError

NoiseChoice = int | Mapping[str, float] | None


def noise_position(compiled: StageData, noise: int | None, name: NodeName) -> int:
    """Position in the support of a node; None where the node has one realization.

    Raises
    ------
    ModelError
        It is missing, no integer, or outside the support.
    """
    n = compiled.noise.n_realisations
    if noise is None and n > 1:
        raise ModelError(
            f"node {name!r} sees noise before deciding; give noise= values for "
            f"{list(compiled.noise.names)} or a position in 0..{n - 1}"
        )
    if noise is not None and (isinstance(noise, bool) or not isinstance(noise, Integral)):
        raise ModelError(f"noise = {noise!r}; give a position in 0..{n - 1} or values by parameter")
    position = int(noise or 0)
    if not 0 <= position < n:
        raise ModelError(f"noise = {noise} is outside 0..{n - 1} at node {name!r}")
    return position


def noise_entries(compiled: StageData, noise: NoiseChoice, name: NodeName) -> Mapping[str, Floats]:
    """Entries of the stage that hold noise, in engine units, at the noise chosen."""
    if isinstance(noise, Mapping):
        return noise_values(compiled, noise, f"node {name!r}")
    position = noise_position(compiled, noise, name)
    return {place: values[position] for place, values in compiled.noise.values.items()}


def noise_label(noise: NoiseChoice) -> str:
    """``noise 2``, or ``noise {'inflow': 3.5}``."""
    return f"noise {dict(noise)}" if isinstance(noise, Mapping) else f"noise {noise or 0}"
