"""``sddp data fetch`` with answers that a test gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from unittest.mock import patch

from sddp import cli
from sddp.data.sources import download


def fetch_main(source: str, arguments: Sequence[str], get: Callable[[str], bytes]) -> int:
    """Exit code of the command; `get` stands for the network."""
    with patch.object(download, "fetch", get):
        return cli.main(["data", "fetch", source, *arguments])
