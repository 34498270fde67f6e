"""What all pages share: a template that escapes everything, numbers as people read them, pictures inside the page."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

if TYPE_CHECKING:
    from jinja2 import Template

METRIC_NAMES: Final[Mapping[str, str]] = {
    "auc": "Area under the ROC curve",
    "log_loss": "Log loss (nats)",
    "accuracy": "Accuracy at 0.5",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "total_return": "Total return after costs (share of notional)",
    "mean_trade_bps": "Mean trade after costs (basis points)",
    "sharpe_annual": "Sharpe ratio after costs (annualised by trades a year)",
    "percentile_of_random_entries": "Percentile among random entries",
}


def open_template(path: Path) -> Template:
    """A Jinja template that escapes what is interpolated and fails on a name that it was not given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(path.name)


def inlined(svg: bytes) -> str:
    """A picture as the address of an image, in which no script can run."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def metric_rows(metrics: pd.DataFrame) -> list[dict[str, str]]:
    """A training result's metrics as texts, a row a metric: its name, value, interval and baselines."""
    rows = []
    for record in metrics.to_dict("records"):
        interval = "" if is_missing(record["low"]) else f"{number(record['low'])} to {number(record['high'])}"
        rows.append(
            {
                "name": METRIC_NAMES.get(str(record["metric"]), str(record["metric"])),
                "value": number(record["value"]),
                "interval": interval,
                **{key: number(record[key]) for key in ("majority", "random", "logistic")},
            }
        )
    return rows


def table(frame: pd.DataFrame) -> dict[str, list[Any]]:
    """Headings and cells as text; numbers are marked so that they can be set flush right."""
    return {
        "columns": [str(column).replace("_", " ") for column in frame.columns],
        "rows": [
            [(number(value), _is_number(value)) for value in row] for row in frame.itertuples(index=False, name=None)
        ],
    }


def number(value: Any) -> str:
    """One value as a person reads it: four digits, a dash for what is missing.

    Examples
    --------
    >>> number(0.123456), number(12_345), number(1234567.8), number(1e-7), number(True)
    ('0.1235', '12,345', '1.23e+06', '1.00e-07', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_missing(value):
        return "–"  # noqa: RUF001 - the typographer's sign for an empty cell
    if isinstance(value, float):
        if value == 0 or 1e-4 <= abs(value) < 1e6:
            return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
        return f"{value:.2e}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, tuple | list):
        return "; ".join(map(str, value)) or "–"  # noqa: RUF001
    return str(value)


def is_missing(value: Any) -> bool:
    """Whether a value is None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
