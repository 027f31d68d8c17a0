"""Figures as PNG files of few colors."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from scipy.spatial import cKDTree

# Twice the pixels of a screen, and 200 an inch on a printed page.
DPI = 150
# Of the 256 colors of a picture; more figures than not have fewer that cover an area.
KEPT_COLORS = 128


def png(figure: Figure) -> bytes:
    """A figure as PNG, in 256 of its colors: a third of the bytes of all of them.

    What changes are shades along edges: the colors of lines, areas and paper are kept.
    """
    drawn, stream = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    _in_few_colors(Image.open(drawn).convert("RGB")).save(stream, format="png", optimize=True)
    return stream.getvalue()


def _in_few_colors(image: Image.Image) -> Image.Image:
    """The commonest colors as they are, others replaced by the nearest of 256."""
    pixels = np.asarray(image).astype(np.uint32)
    codes = (pixels[..., 0] << 16) + (pixels[..., 1] << 8) + pixels[..., 2]
    known, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    colors = np.stack([known >> 16, known >> 8 & 255, known & 255], axis=1)
    common = colors[np.argsort(-counts, kind="stable")[:KEPT_COLORS]]
    spread = image.quantize(256 - KEPT_COLORS, method=Image.Quantize.MAXCOVERAGE)
    palette = np.vstack([common, np.array(spread.getpalette()).reshape(-1, 3)])[:256]
    nearest = np.asarray(cKDTree(palette).query(colors)[1], dtype=np.uint8)
    reduced = Image.fromarray(nearest[places].reshape(codes.shape))
    reduced.putpalette(palette.astype(np.uint8).ravel().tolist())
    return reduced
