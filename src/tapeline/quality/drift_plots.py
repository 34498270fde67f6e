"""Pictures and the page of the drift check, and of the quality scores' trend."""

from __future__ import annotations

import html
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.quality.daily_score import PARTS
from tapeline.quality.distribution import STATISTICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN: Final = 25
"""Columns that a picture shows at most: those farthest beyond, or nearest to, their limits."""
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem}"
    "table{border-collapse:collapse;font-size:13px}td,th{padding:.2rem .7rem .2rem 0;border-bottom:1px solid #ddd;"
    "text-align:left}td.n{text-align:right}tr.alarm td{background:#fdf3ec}"
)


def plot_distances(report: pd.DataFrame, *, title: str = "") -> Figure:
    """Each column's distances as shares of their limits; what lies beyond 1 has changed.

    Parameters
    ----------
    report:
        As :meth:`tapeline.quality.distribution.DistributionMonitor.report` gives it.

    Returns
    -------
    A figure that belongs to no window; write it with :func:`write_figure`.
    """
    from matplotlib.figure import Figure

    with np.errstate(divide="ignore", invalid="ignore"):
        share = report["value"] / report["limit"].where(report["limit"] > 0)
    wide = report.assign(share=share).pivot_table(index="column", columns="statistic", values="share", aggfunc="first")
    order = wide.max(axis=1).sort_values(ascending=False, kind="stable").index[:SHOWN][::-1]
    figure = Figure(figsize=(9, 1.4 + 0.28 * len(order)), layout="constrained")
    axes = figure.subplots()
    for name, marker in zip(STATISTICS, "osD^vx", strict=True):
        if name in wide.columns:
            axes.plot(wide.loc[order, name], range(len(order)), marker, label=name, markersize=5, alpha=0.8)
    axes.axvline(1.0, color="black", linewidth=1, linestyle="--")
    axes.set_yticks(range(len(order)), [str(name) for name in order])
    axes.set_xlabel("distance from the reference, as a share of its limit")
    axes.set_title(title)
    axes.legend(loc="lower right", fontsize=8)
    return figure


def plot_scores(days: pd.DataFrame, *, title: str = "") -> Figure:
    """The quality score by day, above its parts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    times = pd.DatetimeIndex(days.index).tz_localize(None)
    upper.plot(times, days["score"], color="#0072B2", linewidth=1.2)
    upper.set_ylabel("score")
    upper.set_title(title)
    for part in PARTS:
        lower.plot(times, days[part], label=part, linewidth=1)
    lower.set_ylabel("parts")
    lower.set_xlabel("UTC")
    lower.legend(fontsize=8, ncols=len(PARTS))
    for axes in (upper, lower):
        axes.set_ylim(-0.03, 1.03)
    return figure


def render_report(report: pd.DataFrame, *, title: str, span: str, picture: str = "") -> str:
    """The distribution report as one HTML page without script, alarms first; names from outside are escaped.

    Parameters
    ----------
    report:
        As the monitor gives it.
    title, span:
        A heading, and what was compared with what.
    picture:
        The file name of a picture that lies beside the page.
    """
    ordered = report.sort_values(["alarm", "p_value"], ascending=[False, True], kind="stable")
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in ordered.columns)
    lines = []
    for row in ordered.itertuples(index=False):
        cells = "".join(
            f'<td class="n">{value:.4g}</td>' if isinstance(value, float) else f"<td>{html.escape(str(value))}</td>"
            for value in row
        )
        kind = ' class="alarm"' if row.alarm else ""
        lines.append(f"<tr{kind}>{cells}</tr>")
    columns = ordered.loc[ordered["alarm"], "column"].nunique()
    image = f'<p><img src="{html.escape(picture)}" alt="distances" style="max-width:100%"></p>' if picture else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1><p>{html.escape(span)}</p>"
        f"<p>{columns} of {ordered['column'].nunique()} columns raise an alarm.</p>{image}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></body></html>\n"
    )


def write_figure(path: Path, figure: Figure) -> Path:
    """Write a figure as PNG in one step; DataError where it cannot be written. Returns its absolute path."""
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_suffix(".tmp.png")
        figure.savefig(scratch, dpi=110)
        return scratch.replace(target)
    except OSError as error:
        raise DataError(f"the picture {target} cannot be written: {error.strerror}") from error


def write_page(path: Path, text: str) -> Path:
    """Write a page in one step; DataError where it cannot be written. Returns its absolute path."""
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(scratch).chmod(0o644)
        return Path(scratch).replace(target)
    except OSError as error:
        raise DataError(f"the page {target} cannot be written: {error.strerror}") from error
