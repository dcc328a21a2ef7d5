"""The style of all figures, and figures as arrays and files."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fbr_plugin.errors import check_choice
from fbr_plugin.files import replacing

INK = "#333333"
MAX_HEIGHT = 7.2
"""Inches of the highest figure, 1080 pixels: a screen."""

_DPI = 150
_PRINT = 300  # dots per inch of photos in a PDF

style = matplotlib.rc_context(
    {
        "figure.dpi": _DPI,
        "figure.constrained_layout.use": True,
        "font.size": 9,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
        **dict.fromkeys(("xtick.color", "ytick.color"), INK),
    }
)


def to_array(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure to [H, W, 3] uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, whole or not at all; missing folders are created."""
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def save_pages(pages: Iterable[Figure], path: str | Path, count: int) -> list[Path]:
    """Write figures one at a time: as one PDF, or as PNGs that are numbered if there are several.

    Args:
        pages: the figures, which may be drawn as they are asked for.
        path: `.pdf` or `.png` file; several PNGs are `NAME_1.png`, `NAME_2.png` and so on.
        count: how many pages there are.

    Returns:
        The files, each written whole or not at all.
    """
    path = Path(path)
    check_choice(f"the suffix of {path}", path.suffix, (".png", ".pdf"))
    if path.suffix == ".pdf":
        # Without the date, the same pages give the same bytes.
        with replacing(path) as partial, PdfPages(partial, metadata={"CreationDate": None}) as book:
            for page in pages:
                book.savefig(page, dpi=_PRINT)
        return [path]
    numbered = [path.with_stem(f"{path.stem}_{number}") for number in range(1, count + 1)]
    files = [path] if count == 1 else numbered
    for page, file in zip(pages, files, strict=True):
        save(page, file)
    return files
