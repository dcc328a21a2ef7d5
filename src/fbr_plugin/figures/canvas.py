"""The style of all figures, and figures as arrays and files."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fbr_plugin.files import replacing

INK = "#333333"


style = matplotlib.rc_context(
    {
        "figure.dpi": 150,
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
