"""Font fallback for labels in any script."""

from __future__ import annotations

import logging
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

# They have a glyph for every sign (an empty box), or other signs in the places of Unicode's.
UNFIT = ("Last Resort", "STIXNonUnicode", "STIXSize", "cm")

_log = logging.getLogger("sddp")


def drawable(text: str) -> str:
    r"""The text with signs that no installed font has as escapes, ``\u65e5``.

    >>> drawable("AAPL"), drawable("\U000f0000")
    ('AAPL', '\\U000f0000')
    """
    lacking = {sign for sign in text if _family(sign) is None}
    if lacking:
        _log.warning("no installed font has the signs of %r; figures show them as escapes", text)
    return "".join(_escaped(sign) if sign in lacking else sign for sign in text)


def families(text: str) -> list[str]:
    """Fonts that have the signs of a text between them, the default one first."""
    found = [family for sign in text if (family := _family(sign)) is not None]
    return list(dict.fromkeys([_default(), *found]))


def show(drawn: Text, text: str) -> None:
    """Let a text of a figure show a label as it is, every sign by a font that has it."""
    drawn.set_parse_math(False)
    drawn.set_fontfamily(families(text))
    drawn.set_text(drawable(text))


def _escaped(sign: str) -> str:
    return sign.encode("ascii", "backslashreplace").decode("ascii")


def _default() -> str:
    return get_font(findfont(FontProperties())).family_name


@cache
def _signs(path: str) -> frozenset[int]:
    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):  # a format that matplotlib does not draw, such as colored signs
        return frozenset()


@cache
def _family(sign: str) -> str | None:
    """A font that has a sign; None where no installed one does."""
    if sign.isspace() or ord(sign) in _signs(findfont(FontProperties())):
        return _default()
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.fname)):
        if not entry.name.startswith(UNFIT) and ord(sign) in _signs(entry.fname):
            return entry.name
    return None
