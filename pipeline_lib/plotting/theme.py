"""The one theme of all figures: colours for colour-blind readers (Okabe and Ito), sizes for print, and bytes that do not change between runs."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

WIDTH = 7.0
"""Inches: the full width of a printed page's text."""
COLUMN = 3.4
"""Inches: one column of a two-column page."""

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("", (4, 1.5), (1, 1), (3, 1, 1, 1), (5, 1, 1, 1, 1, 1), (2, 1), (6, 2), (1, 2))
FORMATS = ("svg", "png", "pdf")

_RC = {
    "font.size": 8, "axes.titlesize": 8.5, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7,
    "legend.title_fontsize": 7, "legend.frameon": False, "figure.dpi": 120, "savefig.dpi": 200, "lines.linewidth": 1.4, "lines.markersize": 4,
    "axes.grid": True, "grid.linewidth": 0.4, "grid.color": "#DDDDDD", "axes.spines.top": False, "axes.spines.right": False,
    "figure.constrained_layout.use": True, "font.family": "DejaVu Sans", "pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "figure",
}


@contextmanager
def theme() -> Iterator[None]:
    """Seaborn's ticks style with the settings above, for the figures that are made inside."""
    import matplotlib
    import seaborn as sns

    matplotlib.use("Agg")
    with matplotlib.rc_context():
        sns.set_theme(context="paper", style="ticks", palette=list(OKABE_ITO), rc=_RC)
        yield


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name, in this order: pass all of a paper's names, so that a name keeps its colour in every figure."""
    return _cycle(names, OKABE_ITO)


def markers(names: Iterable[str]) -> dict[str, str]:
    """A marker for each name, so that colour is never the only difference."""
    return _cycle(names, MARKERS)


def dashes(names: Iterable[str]) -> dict[str, tuple | str]:
    """A dash pattern for each name, as seaborn's `dashes` takes it."""
    return _cycle(names, DASHES)


def save(figure, stem: Path) -> dict[str, bytes]:
    """The figure as SVG, PNG and PDF: the bytes for `stem` with each suffix. The same figure gives the same bytes."""
    import matplotlib.pyplot as plt

    metadata = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
    rendered = {}
    for suffix in FORMATS:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, metadata=metadata[suffix])
        rendered[f"{stem}.{suffix}"] = buffer.getvalue()
    plt.close(figure)
    return rendered


def _cycle(names: Iterable[str], values: tuple) -> dict:
    return {name: values[k % len(values)] for k, name in enumerate(dict.fromkeys(names))}
