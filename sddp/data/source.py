"""What a file holds: its bytes as text cells, whatever its encoding, delimiter or format."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from sddp.data.date_forms import looks_written
from sddp.data.notes import Notes, some
from sddp.errors import DataError

Source = str | os.PathLike[str] | BinaryIO | pd.DataFrame

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
BLANKS = " "
SAMPLE = 200  # lines that decide the delimiter

BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig", "UTF-8 with a byte-order mark"),
    (b"\xff\xfe\x00\x00", "utf-32", "UTF-32"),
    (b"\x00\x00\xfe\xff", "utf-32", "UTF-32"),
    (b"\xff\xfe", "utf-16", "UTF-16"),
    (b"\xfe\xff", "utf-16", "UTF-16"),
)
# First bytes of what is no text; None where this module reads it.
MAGIC = (
    (b"\x1f\x8b", None),
    (b"PK\x03\x04", None),
    (b"PAR1", None),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls) or a protected one: save it as .xlsx or CSV"),
    (b"%PDF", "a PDF: give a table as CSV"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ", "an xz archive: unpack it first"),
    (b"\x89HDF", "an HDF5 file: save the table as CSV or Parquet"),
)


@dataclass(frozen=True)
class SourceOptions:
    """How a file is to be taken apart; see `sddp.data.ReadOptions`."""

    delimiter: str | None = None
    encoding: str | None = None
    sheet: str | None = None


@dataclass(frozen=True)
class Grid:
    """Cells of a file, row by row.

    Attributes
    ----------
    rows : list of list of str
        Without blank lines and comments; rows may differ in length.
    lines : list of int
        Line number of each row in the file, from 1 (in Excel, the number of the row).
    """

    rows: list[list[str]]
    lines: list[int]


@dataclass(frozen=True)
class Loaded:
    """Content of a source, and what is known about it.

    Attributes
    ----------
    content : Grid or DataFrame
    name : str
        File name without folder and ending; ``""`` where there is none.
    facts : dict
        ``file``, ``format``, ``bytes``, ``sha256``; for the report.
    comma_separated : bool
    """

    content: Grid | pd.DataFrame
    name: str
    facts: dict[str, Any]
    comma_separated: bool = False


def load(source: Source, notes: Notes, options: SourceOptions) -> Loaded:
    """Cells of a file, or a DataFrame as it is.

    Raises
    ------
    DataError
        The file cannot be read, is empty or of another kind, its encoding or delimiter is not
        certain, or a sheet has to be chosen.
    """
    if isinstance(source, pd.DataFrame):
        return Loaded(source, "", {"format": "DataFrame"})
    content, name = _bytes(source, notes)
    facts: dict[str, Any] = {
        "file": name or None,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    stem = name.split(".")[0] if not name.startswith(".") else name
    stem = Path(name).stem.removesuffix(".csv") if name else stem
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise notes.error(f"the gzip archive is damaged ({error})") from error
        notes.done.append("unpacked (gzip)")
    if content.startswith(b"PAR1"):
        return Loaded(_parquet(content, notes), stem, facts | {"format": "Parquet"})
    if content.startswith(b"PK\x03\x04"):
        grid, sheet = _excel(content, notes, options.sheet)
        return Loaded(grid, stem, facts | {"format": f"Excel, sheet {sheet!r}"}, True)
    if options.sheet is not None:
        raise notes.error(
            f"sheet={options.sheet!r} (--sheet): the file is not of Excel; leave it out"
        )
    text, encoding = _text(content, notes, options.encoding)
    grid, delimiter = _grid(text, notes, options.delimiter)
    words = DELIMITERS.get(delimiter, "blank" if delimiter == BLANKS else repr(delimiter))
    facts["format"] = f"text, {encoding}, {words}-separated"
    return Loaded(grid, stem, facts, delimiter == ",")


def _bytes(source: Any, notes: Notes) -> tuple[bytes, str]:
    try:
        if hasattr(source, "read"):
            content = source.read()
            content = content.encode() if isinstance(content, str) else content
            name = str(getattr(source, "name", ""))
        else:
            path = Path(source)
            content, name = path.read_bytes(), str(path)
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{notes.where}: the file cannot be read ({reason})") from error
    if not content.strip():
        raise notes.error("the file is empty; give a header line and rows")
    return content, Path(name).name if name and not name.startswith("<") else ""


def _parquet(content: bytes, notes: Notes) -> pd.DataFrame:
    try:
        return pd.read_parquet(io.BytesIO(content))
    except ImportError:
        raise notes.error(
            "Parquet files need the package pyarrow: pip install 'sddp-allocation[files]'"
        ) from None
    except Exception as error:  # pyarrow raises classes of its own
        raise notes.error(
            f"the Parquet file cannot be read ({str(error).splitlines()[0]})"
        ) from error


def _excel(content: bytes, notes: Notes, sheet: str | None) -> tuple[Grid, str]:
    try:
        book = pd.read_excel(
            io.BytesIO(content),
            sheet_name=None,
            header=None,
            dtype=object,
            engine="openpyxl",
            keep_default_na=False,
        )
    except ImportError:
        raise notes.error(
            "Excel files need the package openpyxl: pip install 'sddp-allocation[files]'"
        ) from None
    except Exception as error:  # a zip archive that is no workbook raises many kinds
        raise notes.error(
            f"the file is a zip archive that is no Excel workbook ({error}); unpack it first"
        ) from error
    filled = [str(name) for name, table in book.items() if not table.empty]
    if sheet is not None and sheet not in book:
        raise notes.error(f"sheet={sheet!r} (--sheet): the workbook has {some(map(repr, book))}")
    if sheet is None and len(filled) != 1:
        if not filled:
            raise notes.error("the workbook is empty; give a header row and rows")
        raise notes.error(
            f"the workbook has sheets {some(map(repr, filled))}; choose by sheet (--sheet)"
        )
    name = filled[0] if sheet is None else sheet
    rows = [[_excel_cell(cell) for cell in row] for row in book[name].itertuples(index=False)]
    return _without_blanks(rows, range(1, len(rows) + 1), notes), name


def _excel_cell(cell: Any) -> str:
    if cell is None or cell is pd.NaT or (isinstance(cell, float) and np.isnan(cell)):
        return ""
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
    return str(cell)


def _text(content: bytes, notes: Notes, encoding: str | None) -> tuple[str, str]:
    """Text of bytes and the words for its encoding."""
    for magic, words in MAGIC:
        if words and content.startswith(magic):
            raise notes.error(f"the file is {words}")
    if encoding is not None:
        try:
            return content.decode(encoding), encoding
        except (LookupError, UnicodeError) as error:
            raise notes.error(f"encoding={encoding!r} (--encoding): {error}") from error
    for mark, codec, words in BOMS:
        if content.startswith(mark):
            try:
                return content.decode(codec), words
            except UnicodeError as error:
                raise notes.error(
                    f"the file begins like {words} and is not ({error}); give --encoding"
                ) from error
    # Text of Western letters in UTF-16 without its mark: every other byte is 0.
    for codec, start in (("utf-16-le", 1), ("utf-16-be", 0)):
        half = content[start::2][:2000]
        if len(half) > 1 and half.count(0) > 0.9 * len(half) and len(content) % 2 == 0:
            return content.decode(codec, "replace"), "UTF-16 without a byte-order mark"
    if b"\x00" in content:
        raise notes.error("the file is binary (it holds zero bytes); give a table as CSV")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        text = _not_utf8(content, error.start, notes)
        return text, "Latin-1"
    first = text.lstrip()[:1]
    if first in "<{[" and not text.lstrip().upper().startswith("<DATE>"):
        raise notes.error(
            f"the file is {'a web page' if first == '<' else 'JSON'}, no table: it begins "
            f"{' '.join(text.split())[:40]!r}; download it again, or save it as CSV"
        )
    return text, "UTF-8"


def _not_utf8(content: bytes, at: int, notes: Notes) -> str:
    """Latin-1, where a blank that keeps thousands together is all that is no UTF-8."""
    if not set(content) - set(range(128)) - {0xA0}:
        return content.decode("latin-1")
    line = content.count(b"\n", 0, at) + 1
    around = re.split(rb"[;,\t\r\n|]", content[max(0, at - 20) : at + 20])
    place = next((part for part in around if any(byte > 127 for byte in part)), around[0])
    shown = ", ".join(
        f"{place.decode(codec, 'replace')!r} in {codec}" for codec in ("cp1252", "cp1250", "cp1251")
    )
    raise notes.error(f"line {line} is not UTF-8: it is {shown}; give encoding (--encoding)")


def _grid(text: str, notes: Notes, delimiter: str | None) -> tuple[Grid, str]:
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    stated = re.match(r'"?sep=(.)"?\n', text, re.IGNORECASE)
    if stated and delimiter is None:
        delimiter, text = stated[1], "\n" + text[stated.end() :]
    if delimiter is not None and len(delimiter) != 1:
        named = {words: mark for mark, words in (*DELIMITERS.items(), (BLANKS, "blank"))}
        if delimiter.strip("'\"") in ("\\t", *named):
            delimiter = named.get(delimiter, "\t")
        else:
            raise notes.error(f"delimiter={delimiter!r} (--delimiter): must be one character")
    chosen = delimiter or _delimiter(text, notes)
    rows, lines = _split(text, chosen, notes)
    if chosen != BLANKS:
        mark = re.escape(chosen)
        end = lines[1] - 1 if len(lines) > 1 else None  # a name may hold a line feed
        header = "\n".join(text.split("\n")[:end])
        if re.search(rf'(?:^|{mark})"? +[^ ]|[^ ] +"?(?:{mark}|$)', header):
            notes.done.append("blanks around the names of the header removed")
    return _without_blanks(rows, lines, notes), chosen


def _split(text: str, delimiter: str, notes: Notes) -> tuple[list[list[str]], list[int]]:
    if delimiter == BLANKS:
        rows = [line.split() for line in text.split("\n")]
        return rows, list(range(1, len(rows) + 1))
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows, lines = [], []
    start = 1
    try:
        for row in reader:
            rows.append([cell.strip() for cell in row])
            lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise notes.error(
            f"line {start} cannot be split into cells ({error}); is a quote missing?"
        ) from error
    return rows, lines


def _without_blanks(rows: list[list[str]], lines: Sequence[int], notes: Notes) -> Grid:
    commented = [row[0].startswith("#") and not row[0].startswith("#N") for row in rows if row]
    kept = [
        (row, line)
        for row, line in zip(rows, lines, strict=True)
        if any(row) and not (row[0].startswith("#") and not row[0].startswith("#N"))
    ]
    if any(commented):
        notes.done.append(f"{sum(commented)} lines of comment (#) left out")
    if not kept:
        raise notes.error("the file holds no cells; give a header line and rows")
    return Grid([row for row, _ in kept], [line for _, line in kept])


def _delimiter(text: str, notes: Notes) -> str:
    """The delimiter that cuts the lines into equally many cells, one of them a date."""
    sample = "\n".join(text.split("\n")[: SAMPLE + 1])
    quiet = Notes(notes.where)
    dated: dict[str, float] = {}
    even: dict[str, int] = {}
    for mark in (*DELIMITERS, BLANKS):
        if mark == BLANKS and dated:
            break
        try:
            rows = [row for row in _split(sample, mark, quiet)[0] if any(row)]
        except DataError:
            continue
        width, number = Counter(map(len, rows)).most_common(1)[0] if rows else (0, 0)
        if width > 1 and 2 * number >= len(rows):
            usual = [row for row in rows if len(row) == width]
            with_date = sum(any(_may_be_date(cell) for cell in row) for row in usual)
            dated[mark], even[mark] = with_date / len(usual), number
    likely = [mark for mark in dated if dated[mark] > 0.5] or list(dated)
    best = [mark for mark in likely if even[mark] == max(even[other] for other in likely)]
    if len(best) != 1:
        first = next((line for line in text.split("\n") if line.strip()), "")[:60]
        if not best:
            raise notes.error(
                f"no delimiter found: the first line is {first!r}; separate the cells by commas, "
                "or give delimiter (--delimiter)"
            )
        found = " and ".join(DELIMITERS.get(mark, repr(mark)) for mark in best)
        raise notes.error(
            f"{found} both cut the lines ({first!r}) evenly; give delimiter (--delimiter)"
        )
    return best[0]


def _may_be_date(cell: str) -> bool:
    return bool(re.fullmatch(r"\d{4,19}(\.0*)?", cell)) or looks_written(
        re.split(r"[T ]\d{1,2}:", cell)[0]
    )
