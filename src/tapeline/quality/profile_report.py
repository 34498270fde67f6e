"""A profile as one HTML page: the numbers of each column, its histogram, its past, and what has drifted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from tapeline.core.errors import DataError
from tapeline.core.whole_file import write_whole
from tapeline.quality.profile import as_columns, index_first

TEMPLATE: Final = "profile_report.html.j2"
WIDTH: Final = 140
HEIGHT: Final = 34
LATEST: Final = 60
"""Batches of the past that a sparkline shows at most."""
SUMMARY_COLUMNS: Final = (
    "column", "kind", "count", "nulls", "uniques", "mean", "std", "skew", "kurtosis", "minimum", "q50", "maximum",
    "missing_bars", "drift",
)  # fmt: skip


def summary_table(profile: pd.DataFrame, drift: pd.DataFrame) -> list[dict[str, Any]]:
    """The profile as plain rows for a table: one a column, with the statistics that have drifted by name.

    Examples
    --------
    >>> summary_table(pd.DataFrame(columns=SUMMARY_COLUMNS[:-1]), pd.DataFrame({"alarm": [], "column": []}))
    []
    """
    alarms = drift[drift["alarm"].astype(bool)]
    rows = []
    for _, one in index_first(profile).iterrows():
        row: dict[str, Any] = {name: _plain(one[name]) for name in SUMMARY_COLUMNS if name != "drift"}
        found = alarms[alarms["column"] == row["column"]]
        rows.append({**row, "drift": ", ".join(found["statistic"].astype(str)) if len(found) else ""})
    return rows


def write_profile(path: Path, profile: pd.DataFrame, history: pd.DataFrame, drift: pd.DataFrame, *, title: str) -> Path:
    """Render the page and write it in one step; DataError where it cannot be written. Returns its absolute path."""
    return write_whole(path, render_profile(profile, history, drift, title=title), what="profile")


def render_profile(profile: pd.DataFrame, history: pd.DataFrame, drift: pd.DataFrame, *, title: str) -> str:
    """The page as HTML text, without script or second file; the same input gives the same text.

    Parameters
    ----------
    profile, drift:
        Of one batch, and what :func:`tapeline.quality.profile_drift.compare` found.
    history:
        Profiles of the batches before, for the sparklines and the outline behind each histogram.
    title:
        A heading. Names from outside are escaped, here and in every cell.

    Raises
    ------
    DataError
        The profile is empty.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    batch, past = index_first(profile), as_columns(history)
    if batch.empty:
        raise DataError("the profile is empty", hint="profile_batch makes one")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    head = batch.iloc[0]
    alarms = drift[drift["alarm"].astype(bool)]
    return environment.get_template(TEMPLATE).render(
        title=title,
        table=str(head["table"]),
        span=f"{head['ts']:%Y-%m-%d %H:%M} to {head['end']:%Y-%m-%d %H:%M} UTC",
        period=str(head["period"]),
        version=str(head["version"]),
        rows=f"{int(head['rows']):,}",
        batches=past["ts"].nunique() if len(past) else 0,
        gaps=_gaps(head),
        columns=[_column(one, past, alarms) for _, one in batch.iterrows()],
        alarms=_drift_rows(alarms),
        distances=_drift_rows(_farthest(drift)),
        width=WIDTH,
        height=HEIGHT,
    )


def _column(one: pd.Series, past: pd.DataFrame, alarms: pd.DataFrame) -> dict[str, Any]:
    earlier = past[past["column"].astype(str) == str(one["column"])] if len(past) else past
    earlier = earlier.sort_values("ts").tail(LATEST - 1) if len(earlier) else earlier
    tracked = "top_share" if one["kind"] == "category" else "mean"
    series = [*(earlier[tracked].tolist() if len(earlier) else []), one[tracked]]
    names = ("count", "nulls", "infinite", "uniques")
    numbers = ("mean", "std", "skew", "kurtosis", "minimum", "q01", "q05", "q25", "q50", "q75", "q95", "q99", "maximum")
    labels = list(one["labels"])
    if labels:
        note = ", ".join(f"{name} {count:,}" for name, count in list(zip(labels, one["counts"], strict=True))[:6])
    elif one["kind"] == "time" and not pd.isna(one["first"]):
        note = f"{one['first']:%Y-%m-%d %H:%M:%S} to {one['last']:%Y-%m-%d %H:%M:%S}"
    else:
        note = ""
    return {
        "name": str(one["column"]),
        "kind": str(one["kind"]),
        "counts": [f"{int(one[name]):,}" for name in names],
        "numbers": [_number(one[name]) for name in numbers],
        "note": note,
        "bars": _bars(list(one["counts"]), _pooled(earlier, one)),
        "spark": _spark(series),
        "tracked": tracked,
        "alarm": str(one["column"]) in set(alarms["column"].astype(str)),
    }


def _pooled(earlier: pd.DataFrame, one: pd.Series) -> list[float]:
    """The counts of the past on the same bins; nothing where they have others."""
    names = list(one["labels"])
    total = np.zeros(len(one["counts"]))
    for labels, counts in zip(earlier["labels"], earlier["counts"], strict=True) if len(earlier) else ():
        if names:
            held = dict(zip(labels, counts, strict=True))
            total += [held.get(name, 0) for name in names]
        elif len(counts) == len(total):
            total += np.asarray(counts, dtype=np.float64)
    return total.tolist()


def _bars(counts: list[int], past: list[float]) -> dict[str, Any]:
    """Rectangles of the batch's shares and a line of the past's, in the units of the picture."""
    if not counts or not sum(counts):
        return {"boxes": [], "line": ""}
    share = np.asarray(counts, dtype=np.float64) / sum(counts)
    before = np.asarray(past) / sum(past) if sum(past) else np.zeros(0)
    top = max(share.max(), before.max() if before.size else 0.0)
    step = WIDTH / len(share)
    boxes = [
        (f"{i * step:.1f}", f"{HEIGHT * (1 - s / top):.1f}", f"{max(step - 0.6, 0.4):.1f}", f"{HEIGHT * s / top:.1f}")
        for i, s in enumerate(share)
    ]
    line = " ".join(
        f"{x:.1f},{HEIGHT * (1 - s / top):.1f}" for i, s in enumerate(before) for x in (i * step, (i + 1) * step)
    )
    return {"boxes": boxes, "line": line}


def _spark(series: list[float]) -> dict[str, Any]:
    """A line through the batches in order; what is not finite leaves its place empty."""
    values = np.asarray([np.nan if pd.isna(value) else float(value) for value in series])
    good = np.isfinite(values)
    if good.sum() < 2:
        return {"line": "", "last": None}
    low, high = values[good].min(), values[good].max()
    places = np.linspace(2, WIDTH - 4, len(values))
    heights = HEIGHT - 3 - (HEIGHT - 6) * ((values - low) / (high - low) if high > low else np.full(len(values), 0.5))
    points = [(f"{x:.1f}", f"{y:.1f}") for x, y, ok in zip(places, heights, good, strict=True) if ok]
    return {"line": " ".join(",".join(point) for point in points), "last": points[-1] if good[-1] else None}


def _farthest(drift: pd.DataFrame) -> pd.DataFrame:
    held = drift[drift["judged"].astype(bool) & ~drift["alarm"].astype(bool)]
    share = (held["distance"].abs() / held["limit"]).sort_values(ascending=False, kind="stable")
    return held.loc[share.index[:10]]


def _drift_rows(drift: pd.DataFrame) -> list[list[str]]:
    numbers = ("value", "median", "spread")
    return [
        [
            str(row["column"]),
            str(row["statistic"]),
            *(_number(row[name]) for name in numbers),
            f"{row['distance']:+.2f}",
            f"{row['limit']:.2f}",
        ]
        for _, row in drift.iterrows()
    ]


def _gaps(head: pd.Series) -> str:
    if pd.isna(head["gaps"]):
        return "not counted: this table has no regular bars"
    text = f"{int(head['missing_bars']):,} bars missing in {int(head['gaps']):,} gaps"
    return f"{text} ({head['gap_reasons']})" if head["gap_reasons"] else text


def _number(value: Any) -> str:
    return "" if pd.isna(value) else f"{float(value):.6g}"


def _plain(value: Any) -> Any:
    """A value that JSON and a Prefect artifact can hold."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return None
    if isinstance(value, int | np.integer):
        return int(value)
    return round(float(value), 10) if isinstance(value, float | np.floating) else str(value)
