"""A search as a map of two of its parameters, and the picture of it."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Final, Literal

import numpy as np
import pandas as pd

from tapeline.core.errors import ConfigurationError

DISTINCT: Final = 24
"""More values of a number than this are grouped."""

GROUPS: Final = 12
_SHOWN_NUMBERS: Final = 150


@dataclass(frozen=True)
class Heatmap:
    """A figure of a search over two parameters.

    Parameters
    ----------
    frame:
        Rows are values of ``y``, columns those of ``x``; NaN where no set was tried. A number of more than 24 values,
        as drawn from a range, is grouped into twelve of equally many sets, each named by its median.
    x, y:
        The parameters.
    value:
        The figure.
    over:
        The other parameters that vary: each cell is the median of its sets over them.
    """

    frame: pd.DataFrame
    x: str
    y: str
    value: str
    over: tuple[str, ...]

    @property
    def title(self) -> str:
        """What the cells are, in words."""
        return self.value + (f", median over {', '.join(self.over)}" if self.over else "")

    def picture(self, format: Literal["svg", "png"] = "svg") -> bytes:
        """The map drawn: colours from low to high around 0 in the middle, grey where nothing was tried, no display."""
        import matplotlib as mpl
        from matplotlib.figure import Figure

        values = self.frame.to_numpy(dtype=np.float64)
        known = np.isfinite(values)
        reach = float(np.abs(values[known]).max()) if known.any() else 0.0
        figure = Figure(figsize=(7, 5), layout="constrained")
        axes = figure.add_subplot()
        axes.set_facecolor("#BBBBBB")
        image = axes.imshow(
            np.ma.masked_invalid(values), origin="lower", aspect="auto", cmap="RdBu", vmin=-reach, vmax=reach
        )
        figure.colorbar(image, ax=axes).ax.tick_params(labelsize=8)
        axes.set_xticks(range(values.shape[1]), [_label(one) for one in self.frame.columns], fontsize=8, rotation=45)
        axes.set_yticks(range(values.shape[0]), [_label(one) for one in self.frame.index], fontsize=8)
        axes.set_title(self.title, fontsize=10, loc="left", parse_math=False)
        axes.set_xlabel(self.x, fontsize=9, parse_math=False)
        axes.set_ylabel(self.y, fontsize=9, parse_math=False)
        if values.size <= _SHOWN_NUMBERS:
            for row, column in np.argwhere(known):
                dark = abs(values[row, column]) > 0.6 * reach
                text = f"{values[row, column]:.2g}"
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
        buffer = BytesIO()
        # A fixed salt and no date: the same picture has the same bytes.
        with mpl.rc_context({"svg.hashsalt": "tapeline", "svg.fonttype": "path"}):
            figure.savefig(buffer, format=format, dpi=120, metadata={"Date": None} if format == "svg" else None)
        return buffer.getvalue()


def search_heatmap(
    sets: pd.DataFrame, x: str, y: str, *, parameters: tuple[str, ...] = (), value: str = "sharpe"
) -> Heatmap:
    """The map of a figure over two parameters, the median over all others.

    Parameters
    ----------
    sets:
        A row a set, as ``BacktestSearch.sets`` has them.
    x, y:
        Two different parameters.
    parameters:
        All parameters, as ``BacktestSearch.parameters`` names them; those that vary besides ``x`` and ``y`` are named
        in the title.
    value:
        The column that is shown.

    Raises
    ------
    ConfigurationError
        A column is not there, or ``x`` and ``y`` are one parameter.

    Examples
    --------
    >>> sets = pd.DataFrame({"a": [1, 1, 1, 2], "b": [5, 6, 6, 5], "c": [0, 0, 1, 0], "sharpe": [0.1, 0.2, 0.4, 0.3]})
    >>> found = search_heatmap(sets, "a", "b", parameters=("a", "b", "c"))
    >>> found.title, found.frame.round(2).values.tolist()
    ('sharpe, median over c', [[0.1, 0.3], [0.3, nan]])
    """
    absent = [name for name in (x, y, value) if name not in sets.columns]
    if absent or x == y:
        raise ConfigurationError(
            f"a map of {value!r} over {x!r} and {y!r} cannot be drawn",
            hint=f"columns: {', '.join(map(str, sets.columns))}; x and y must differ",
        )
    over = tuple(name for name in parameters if name not in (x, y) and len(sets[name].unique()) > 1)
    cells = pd.DataFrame({y: _grouped(sets[y]), x: _grouped(sets[x]), "figure": sets[value]})
    frame = cells.pivot_table(index=y, columns=x, values="figure", aggfunc="median", observed=True)
    return Heatmap(frame, x, y, value, over)


def _grouped(values: pd.Series) -> pd.Series:
    if values.nunique() <= DISTINCT or not pd.api.types.is_numeric_dtype(values):
        return values
    group = pd.qcut(values, GROUPS, labels=False, duplicates="drop")
    return values.groupby(group).transform("median")


def _label(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
