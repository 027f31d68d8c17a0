"""What the reader says about a table: where it is, what it guessed, what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sddp.errors import DataError


@dataclass
class Notes:
    """Name of a table in messages, and what is to be reported about it.

    Parameters
    ----------
    where : str
        How messages begin, such as ``--prices p.csv``.
    place : callable
        Words for the i-th data row of the source: ``line 7``.

    Attributes
    ----------
    guessed : list of str
        What was decided from the data, with the option that decides otherwise.
    done : list of str
        What was changed: sorted, left out, converted.
    cautions : list of str
        What a reader of the results should know.
    """

    where: str
    place: Callable[[int], str] = "row {}".format
    guessed: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    def error(self, message: str) -> DataError:
        """Error about this table."""
        return DataError(f"{self.where}: {message}")


def some(names: object, shown: int = 5) -> str:
    """First names of a sequence in words: ``A, B and 3 more``."""
    texts = [str(name) for name in names]  # type: ignore[attr-defined]
    rest = len(texts) - shown
    return ", ".join(texts[:shown]) + (f" and {rest} more" if rest > 0 else "")


def count(number: int, noun: str) -> str:
    """``1 row``, ``3 rows``."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number} {noun if number == 1 else plural}"
