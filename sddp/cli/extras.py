"""Whether the packages that draw figures and pages are installed: the extra ``report``."""

from __future__ import annotations

from importlib.util import find_spec

from sddp.cli.exit_codes import REPORT


def can_draw() -> bool:
    """Whether figures and pages can be written."""
    return all(map(_installed, REPORT))


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:
        return False


def not_drawn(what: str) -> str:
    """What a command says of figures or pages that it could not write."""
    return f"{what}: not written; pip install 'sddp-allocation[report]' brings what draws it."
