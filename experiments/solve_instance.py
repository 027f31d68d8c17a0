"""Solve one allocation instance and print a JSON object: ``sddp solve``, always as JSON.

``python -m experiments.solve_instance FILE.json [--iterations N] [--seconds S] [--simulate M]
[--seed I] [--cvar lazy|explicit]``; the file's format is in `sddp.allocation.instances`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from sddp import cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 on success, 1 where the instance is malformed or infeasible."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return cli.main(["solve", "--quiet", "--json", "-", *given])


if __name__ == "__main__":
    sys.exit(main())
