"""Policy files: versioned, exact, and bound to the problem they belong to.

A JSON document; arrays are the compressed bytes of their numbers, so that nothing is rounded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from sddp import risk as risk_measures
from sddp.engine import cost_to_go
from sddp.engine.cuts import Cuts
from sddp.engine.graph import NodeName
from sddp.engine.lazy_rows import RowTable
from sddp.engine.problem import Problem
from sddp.engine.snapshot import NodeMemory, Snapshot
from sddp.errors import PolicyFileError
from sddp.files import written_whole
from sddp.risk import ConvexCombination, RiskMeasure

FORMAT, VERSION = "sddp-policy", 2


def save_snapshot(problem: Problem, snapshot: Snapshot, path: str | PathLike[str]) -> None:
    """Write what a policy consists of to a file.

    The file appears whole or not at all: it is written beside its place and then moved there.

    Raises
    ------
    PolicyFileError
        The place cannot be written to, or a risk measure is not one of the package's.
    """
    document = {
        "format": FORMAT,
        "version": VERSION,
        "problem": problem_digest(problem),
        **_encode_snapshot(problem, snapshot),
    }
    _write_whole(Path(path), json.dumps(document | {"sha256": _checksum(document)}))


def load_snapshot(problem: Problem, path: str | PathLike[str]) -> Snapshot:
    """Read what `save_snapshot` wrote.

    Raises
    ------
    PolicyFileError
        Not a policy file, of another version, damaged, or of another problem.
    """
    document = _read_document(path)
    if document.get("problem") != problem_digest(problem):
        raise PolicyFileError(
            f"{path} belongs to another problem: graph, stage data, noise, transitions or "
            "cost_to_go_bound differ; build the problem it was trained on, or train again"
        )
    if document.pop("sha256", None) != _checksum(document):
        raise PolicyFileError(f"{path} is damaged: its content misses its checksum; train again")
    try:
        return _decode_snapshot(problem, document)
    except (LookupError, ValueError, TypeError, AttributeError, zlib.error) as error:
        raise PolicyFileError(f"{path} is damaged ({error!r}); train again") from error


def _read_document(path: str | PathLike[str]) -> dict[str, Any]:
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyFileError(f"{path} cannot be read as a policy file: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise PolicyFileError(f"{path} is no {FORMAT} file")
    if document.get("version") != VERSION:
        raise PolicyFileError(
            f"{path} has version {document.get('version')}; this package reads {VERSION}"
        )
    return document


def _checksum(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _write_whole(target: Path, text: str) -> None:
    """Write a text file that is never seen half-written, and leave nothing else behind."""
    try:
        with written_whole(target) as beside:
            beside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PolicyFileError(f"{target} cannot be written: {error}") from error


def problem_digest(problem: Problem) -> str:
    """SHA-256 over everything of a problem that a policy depends on."""
    graph, names = problem.graph, list(problem.graph.nodes)
    # Where all is homogeneous nothing that was learnt depends on the first state, and a policy
    # serves tomorrow's holdings too.
    stages = [
        stage.content if problem.homogeneous else stage.fingerprint
        for stage in problem.stages.values()
    ]
    # Cuts made under an assumed bound, or beside given cuts, stand and fall with them.
    bounds = [problem.given_bound(name) for name in names]
    cuts = [
        [[np.asarray(getattr(cut, f.name)).tolist() for f in fields(cut)] for cut in given]
        for given in (problem.initial_cuts[name] for name in names)
    ]
    arcs = sorted(graph.arcs.items(), key=repr)
    return hashlib.sha256(repr((names, arcs, stages, bounds, cuts)).encode()).hexdigest()


def _encode_snapshot(problem: Problem, snapshot: Snapshot) -> dict[str, Any]:
    names = list(problem.graph.nodes)
    return {
        "risk": [_encode_risk(snapshot.risk[name]) for name in names],
        "root_risk": _encode_risk(snapshot.root_risk),
        "cuts": type(snapshot.cuts).__name__,
        "tolerance": snapshot.tolerance,
        "theta_lower": [
            [i, None if snapshot.theta_lower[name] == -np.inf else snapshot.theta_lower[name]]
            for i, name in enumerate(names)
            if name in snapshot.theta_lower
        ],
        "nodes": [_encode_node(snapshot.nodes[name]) for name in names],
    }


def _decode_snapshot(problem: Problem, document: Mapping[str, Any]) -> Snapshot:
    names = list(problem.graph.nodes)
    return Snapshot(
        risk={n: _decode_risk(r) for n, r in zip(names, document["risk"], strict=True)},
        root_risk=_decode_risk(document["root_risk"]),
        cuts=getattr(cost_to_go, document["cuts"])(),
        tolerance=float(document["tolerance"]),
        theta_lower={
            names[i]: -np.inf if value is None else float(value)
            for i, value in document["theta_lower"]
        },
        nodes=_decode_nodes(names, document["nodes"]),
    )


def _encode_node(memory: NodeMemory) -> dict[str, Any]:
    return {
        "pools": [_encode_cuts(cuts) for cuts in memory.pools],
        "feasibility": _encode_cuts(memory.feasibility),
        "averages": _encode_cuts(memory.averages),
        "rows": [
            _encode_array(array)
            for array in (memory.rows.coefficients, memory.rows.lower, memory.rows.returns)
        ],
        "reference": None if memory.reference is None else _encode_array(memory.reference),
    }


def _decode_nodes(names: list[NodeName], documents: list[Any]) -> dict[NodeName, NodeMemory]:
    return {n: _decode_node(d) for n, d in zip(names, documents, strict=True)}


def _decode_node(document: Mapping[str, Any]) -> NodeMemory:
    reference = document["reference"]
    return NodeMemory(
        pools=[_decode_cuts(cuts) for cuts in document["pools"]],
        feasibility=_decode_cuts(document["feasibility"]),
        averages=_decode_cuts(document["averages"]),
        rows=RowTable(*(_decode_array(array) for array in document["rows"])),
        reference=None if reference is None else _decode_array(reference),
    )


def _encode_cuts(cuts: Cuts) -> list[Any]:
    return [_encode_array(cuts.slopes), _encode_array(cuts.intercepts)]


def _decode_cuts(document: list[Any]) -> Cuts:
    return Cuts(*(_decode_array(array) for array in document))


def _encode_array(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    data = zlib.compress(np.ascontiguousarray(array).tobytes())
    return {
        "shape": list(array.shape),
        "type": str(array.dtype),
        "data": base64.b64encode(data).decode("ascii"),
    }


def _decode_array(document: Mapping[str, Any]) -> Any:
    data = zlib.decompress(base64.b64decode(document["data"]))
    return np.frombuffer(data, dtype=document["type"]).reshape(document["shape"])


def _encode_risk(measure: RiskMeasure) -> dict[str, Any]:
    if isinstance(measure, ConvexCombination):
        return {
            "name": "ConvexCombination",
            "terms": [[w, _encode_risk(m)] for w, m in measure.terms],
        }
    name = type(measure).__name__
    if getattr(risk_measures, name, None) is not type(measure):
        raise PolicyFileError(
            f"risk measure {measure!r} is not one of sddp.risk, so a file cannot name it; "
            "keep the policy in memory or express the measure by the package's"
        )
    # Every one has numbers as fields, maybe numpy's, which JSON does not know.
    return {"name": name, **{f.name: float(getattr(measure, f.name)) for f in fields(measure)}}  # type: ignore[arg-type]


def _decode_risk(document: Mapping[str, Any]) -> RiskMeasure:
    if document["name"] == "ConvexCombination":
        return ConvexCombination(tuple((w, _decode_risk(m)) for w, m in document["terms"]))
    arguments = {key: value for key, value in document.items() if key != "name"}
    measure: RiskMeasure = getattr(risk_measures, document["name"])(**arguments)
    return measure
