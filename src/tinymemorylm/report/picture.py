"""What all pictures share: their colours, their frame, and how they reach the disk.

In: axes that a report has drawn on. Out: a PNG.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinymemorylm.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, PALE, SMOOTH, VALIDATION = "#333333", "#b9cde0", "#2b6ca3", "#d1642c"


def new_axes(width: float = 8, height: float = 4.5) -> "Axes":
    """Axes of a picture of their own, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def save_picture(axes: "Axes", title: str, path: Path, **legend: Any) -> None:
    """Frame, title and legend as all pictures have them. legend: where it stands, as `loc`."""
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, **legend)
    with atomic_file(path) as file:
        axes.get_figure().savefig(file, format="png", dpi=150)  # type: ignore
