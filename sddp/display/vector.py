"""Figures as SVG, wide and narrow, that follow a dark page."""

from __future__ import annotations

import io
import re

import matplotlib
from matplotlib.figure import Figure

# Points closer than this to a straight line between their neighbors are left out, in pixels.
SIMPLIFIED = 0.4
NARROW_WIDTH = 4.4  # inches: a phone's width at the size of text on its page
LONGEST_TITLE = 34

# Black, the grays of notes and grids, and what they are on a dark page.
DARK = {"#000000": "#e4e4e4", "#595959": "#b0b0b0", "#e0e0e0": "#3c3c3c", "#ffffff": "#16181b"}


def svg(figure: Figure) -> str:
    """A figure as the text of an SVG file with a transparent ground; the same bytes each time.

    Text stays text. Where the reader asks for dark pages black turns light.
    """
    drawn = io.StringIO()
    with matplotlib.rc_context():
        matplotlib.rcParams["svg.fonttype"] = "none"
        matplotlib.rcParams["svg.hashsalt"] = "sddp"
        matplotlib.rcParams["path.simplify_threshold"] = SIMPLIFIED
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Hundredths of a point are finer than any screen.
    text = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", text)
    return text.replace(">", f">\n<style>{_dark_rules()}</style>", 1)


def narrowed(figure: Figure) -> Figure:
    """The same figure made for a narrow screen: legend below, titles over two lines."""
    width, height = figure.get_size_inches()
    n_entries = 0
    for legend in list(figure.legends):
        handles = [handle for handle in legend.legend_handles if handle is not None]
        names = [t.get_text() for t in legend.get_texts()]
        fonts = [t.get_fontfamily() for t in legend.get_texts()]
        legend.remove()
        n_entries = len(names)
        below = figure.legend(
            handles, names, loc="outside lower left", frameon=False, fontsize="small"
        )
        for drawn, family in zip(below.get_texts(), fonts, strict=True):
            drawn.set_parse_math(False)
            drawn.set_fontfamily(family)
    for ax in figure.axes:
        for place in ("left", "center"):
            text = ax.get_title(loc=place)
            if text:
                title = ax.title if place == "center" else ax._left_title  # type: ignore[attr-defined]
                title.set_text(_folded(text))
                title.set_fontsize("small")
        ax.tick_params(labelsize="small")
    if n_entries:
        figure.supxlabel("")  # it would stand where the legend does; captions say more
    share = 0.62 if width > height else 1.0
    figure.set_size_inches(NARROW_WIDTH, max(share * height, 2.2) + 0.19 * n_entries)
    return figure


def _folded(text: str, width: int = LONGEST_TITLE) -> str:
    """Lines of at most so many signs."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def _dark_rules() -> str:
    changed = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark} !important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    return f"@media (prefers-color-scheme: dark){{text{{fill:{DARK['#000000']}}}{changed}}}"
