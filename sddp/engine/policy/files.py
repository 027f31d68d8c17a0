"""Policy files: versioned, exact, complete; they open by themselves and hold plain data only.

A JSON document with the closed stages of the problem beside what training found. Nothing in it is
code; classes of the user (a risk measure, a cut form, a row generator) are named by import path.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sddp.engine.model.graph import Graph, MarkovGraph
from sddp.engine.model.problem import Problem
from sddp.engine.stage.declaration import InitialCut
from sddp.engine.stage.noise_table import Entries, NoiseTable
from sddp.engine.stage.stage_data import ReadStage, StageData
from sddp.engine.stage.state_space import StateSpace
from sddp.engine.stage.transition import IdentityMap, MatrixMap, ScaleMap
from sddp.engine.value.checkpoint import Checkpoint, NodeState
from sddp.engine.value.cut_forms import AverageCut, LazyAggregation, MultiCut
from sddp.engine.value.cut_selection import RecentlyLargest
from sddp.engine.value.cuts import Cuts, LinearConstraints
from sddp.errors import ModelError, PolicyFileError
from sddp.files import written_whole
from sddp.plain import Decoder, Encoder, NotPlain
from sddp.risk import (
    AVaR,
    ConvexCombination,
    CVaR,
    Entropic,
    Expectation,
    RiskMeasure,
    WorstCase,
)
from sddp.robust_risk import ModifiedChiSquared, NoiseDistance, Wasserstein

FORMAT, VERSION = "sddp-policy", 4

# Names in the file: they stay when a class or a module is renamed.
NAMES: Mapping[type, str] = {
    StageData: "stage",
    NoiseTable: "noise",
    Entries: "entries",
    StateSpace: "states",
    IdentityMap: "identity",
    ScaleMap: "scale",
    MatrixMap: "matrix",
    InitialCut: "initial_cut",
    Checkpoint: "policy",
    NodeState: "node",
    Cuts: "cuts",
    LinearConstraints: "rows",
    **{
        kind: kind.__name__
        for kind in (
            *(AVaR, ConvexCombination, CVaR, Entropic, Expectation),
            *(ModifiedChiSquared, NoiseDistance, Wasserstein, WorstCase),
        )
    },
    **{kind: kind.__name__ for kind in (AverageCut, LazyAggregation, MultiCut, RecentlyLargest)},
}


class PolicyFile(NamedTuple):
    """What a policy file holds.

    Attributes
    ----------
    problem : Problem
    checkpoint : Checkpoint
    extra : dict
        What a layer above the engine wrote beside it; empty unless its names are given.
    """

    problem: Problem
    checkpoint: Checkpoint
    extra: dict[str, Any]


def save_policy(
    problem: Problem,
    checkpoint: Checkpoint,
    path: str | PathLike[str],
    extra: Mapping[str, Any] | None = None,
    names: Mapping[type, str] | None = None,
) -> None:
    """Write a problem and what a policy consists of to a file.

    The file appears whole or not at all: it is written beside its place and then moved there.

    Parameters
    ----------
    problem, checkpoint :
    path : path
    extra : mapping, optional
        What a layer above the engine needs, by name.
    names : mapping from class to name, optional
        That layer's classes in `extra`.

    Raises
    ------
    PolicyFileError
        The place cannot be written to, or something is no plain data: a class of a script or a
        function, a label that is no text, number, date or tuple of them.
    """
    encoder = Encoder({**NAMES, **(names or {})})
    try:
        document = {
            "format": FORMAT,
            "version": VERSION,
            "digest": problem_digest(problem),
            "problem": _problem_document(problem, encoder),
            "policy": encoder.encode(checkpoint, "policy"),
            "extra": encoder.encode(dict(extra or {}), "extra"),
        }
    except NotPlain as error:
        raise PolicyFileError(f"{path}: the policy cannot be saved: {error}") from error
    document["arrays"] = encoder.arrays
    _write_whole(Path(path), json.dumps(document | {"sha256": _checksum(document)}))


def load_file(
    path: str | PathLike[str],
    problem: Problem | None = None,
    names: Mapping[type, str] | None = None,
) -> PolicyFile:
    """Read what `save_policy` wrote.

    Nothing of the file is run, but the modules of the classes that it names are imported.

    Parameters
    ----------
    path : path
    problem : Problem, optional
        Compared with the file's, and used in its place.
    names : mapping from class to name, optional
        As in `save_policy`.

    Raises
    ------
    PolicyFileError
        Not a policy file, of another version, damaged, or of another problem.
    """
    document = _read_document(path)
    if problem is not None and document.get("digest") != problem_digest(problem):
        raise PolicyFileError(
            f"{path} belongs to another problem: graph, stage data, noise, transitions, initial "
            "cuts or cost_to_go_bound differ; leave problem out to use the file's own, build the "
            "problem it was trained on, or train again"
        )
    if document.pop("sha256", None) != _checksum(document):
        raise PolicyFileError(f"{path} is damaged: its content misses its checksum; train again")
    try:
        decoder = Decoder({**NAMES, **(names or {})}, document["arrays"], _may_be_made)
        own = problem or _decoded_problem(document["problem"], decoder)
        checkpoint = decoder.decode(document["policy"])
        extra = {} if names is None else decoder.decode(document["extra"])
        if set(checkpoint.nodes) != set(own.graph.nodes):
            raise ValueError("nodes are missing")
    except (LookupError, ValueError, TypeError, AttributeError, StopIteration, zlib.error) as error:
        raise PolicyFileError(
            f"{path} cannot be opened ({error}); if it names a class, see that its module can be "
            "imported and the class takes the same arguments, else train again"
        ) from error
    return PolicyFile(own, checkpoint, extra)


def _may_be_made(kind: type) -> bool:
    """Classes by import path that a policy consists of, and the plain data that they hold."""
    parts = issubclass(kind, RiskMeasure) or hasattr(kind, "attach") or hasattr(kind, "violated")
    return parts or is_dataclass(kind)


def _problem_document(problem: Problem, encoder: Encoder) -> dict[str, Any]:
    graph, names = problem.graph, list(problem.graph.nodes)
    position = {name: i for i, name in enumerate((graph.root, *names))}
    distinct = list({id(stage): stage for stage in problem.stages.values()}.values())
    stage_number = {id(stage): i for i, stage in enumerate(distinct)}
    return {
        "markov": isinstance(graph, MarkovGraph),
        "nodes": [encoder.encode(name, f"node {name!r}") for name in (graph.root, *names)],
        "arcs": [[position[a], position[b], p] for (a, b), p in graph.arcs.items()],
        "cost_to_go_bound": encoder.encode(problem.cost_to_go_bound, "cost_to_go_bound"),
        "stages": [encoder.encode(stage, "stage") for stage in distinct],
        "stage_of": [stage_number[id(problem.stages[name])] for name in names],
        "initial_cuts": [
            encoder.encode(list(problem.initial_cuts[name]), f"initial_cuts of node {name!r}")
            for name in names
        ],
    }


def _decoded_problem(document: Mapping[str, Any], decoder: Decoder) -> Problem:
    root, *names = (decoder.decode(name) for name in document["nodes"])
    every = (root, *names)
    kind = MarkovGraph if document["markov"] else Graph
    graph = kind(names, {(every[a], every[b]): p for a, b, p in document["arcs"]}, root)
    distinct = [decoder.decode(stage) for stage in document["stages"]]
    ready = {
        name: ReadStage(distinct[number], decoder.decode(cuts))
        for name, number, cuts in zip(
            names, document["stage_of"], document["initial_cuts"], strict=True
        )
    }
    bound = decoder.decode(document["cost_to_go_bound"])
    try:
        return Problem(graph, lambda node: ready[node.name], bound)
    except ModelError as error:
        raise ValueError(f"its problem is none: {error}") from error


def _read_document(path: str | PathLike[str]) -> dict[str, Any]:
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyFileError(f"{path} cannot be read as a policy file: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise PolicyFileError(f"{path} is no {FORMAT} file")
    if document.get("version") != VERSION:
        raise PolicyFileError(
            f"{path} has version {document.get('version')}; this package reads {VERSION}; train "
            "again, or open it with the package that wrote it"
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
    # Where all is homogeneous nothing that training found depends on the first state, and a policy
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
