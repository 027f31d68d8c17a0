"""Import paths of classes, for files and fingerprints."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def class_path(kind: type) -> str:
    """``module:name`` of a class."""
    return f"{kind.__module__}:{kind.__qualname__}"


def importable(kind: type) -> bool:
    """Whether another process can import the class by its path."""
    if kind.__module__ == "__main__":
        return False
    try:
        return found_class(class_path(kind)) is kind
    except LookupError:
        return False


def found_class(path: str) -> type:
    """The class at a path.

    Raises
    ------
    LookupError
        There is none.
    """
    module, _, name = path.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise LookupError(f"no class {path}: {error}") from error
    if not isinstance(found, type):
        raise LookupError(f"{path} is not a class")
    return found
