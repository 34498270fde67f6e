"""Label sets: a TOML file that names one label with its parameters, and the version that follows from it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.core.registry import Catalog, Component
from tapeline.core.set_file import read_set_file
from tapeline.core.symbol import parse_name
from tapeline.core.timeframe import Timeframe
from tapeline.core.user_code import load_user_component
from tapeline.core.versions import code_digest, digest
from tapeline.labels.delay import delayed_labels
from tapeline.labels.weights import with_weights

DEFAULT_SET: Final = "direction"
WEIGHTS_MODULE: Final = "tapeline.labels.weights"
DELAY_MODULE: Final = "tapeline.labels.delay"


@dataclass(frozen=True)
class LabelSet:
    """One label component with its parameters and its weighting.

    ``oldest_weight`` is the ``oldest`` of :func:`tapeline.labels.weights.time_decay`; 1 means no decay. ``delay_bars``
    and ``delay_minutes`` are how late an order is executed, as in :func:`tapeline.labels.delay.delayed_labels`.
    """

    name: str
    component: Component
    parameters: Mapping[str, Any]
    oldest_weight: float = 1.0
    delay_bars: int = 0
    delay_minutes: int = 0

    @cached_property
    def version(self) -> str:
        """``<name>@<digest>`` over the code, the parameters and the weighting."""
        return f"{self.name}@{digest(self.description)}"

    @cached_property
    def description(self) -> dict[str, Any]:
        """Everything that the version is the hash of, as plain values."""
        described: dict[str, Any] = {
            "component": self.component.name,
            "parameters": dict(self.parameters),
            "code": code_digest(self.component.function),
            "oldest_weight": self.oldest_weight,
            "weights": code_digest(WEIGHTS_MODULE),
        }
        if self.delayed:
            delay = {"bars": self.delay_bars, "minutes": self.delay_minutes, "code": code_digest(DELAY_MODULE)}
            described["delay"] = delay
        return described

    @property
    def delayed(self) -> bool:
        """Whether orders are executed later than at the next open."""
        return self.delay_bars > 0 or self.delay_minutes > 0

    @property
    def lookback(self) -> int:
        """The bars before the labelled one that decide its label."""
        return self.component.lookback_of(**self.parameters)


class _File(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    name: str
    description: str = ""
    component: str
    oldest_weight: float = Field(1.0, gt=-1, le=1)
    delay_bars: int = Field(0, ge=0, le=100_000)
    delay_minutes: int = Field(0, ge=0, le=10_000_000)


def load_label_set(source: Path | str | None = None, *, catalog: Catalog | None = None) -> LabelSet:
    """Read a label set: a path to a TOML file or the name of a packaged one; None is the packaged ``direction``.

    Besides ``name``, ``description``, ``component``, ``oldest_weight``, ``delay_bars`` and ``delay_minutes``, every
    entry is a parameter of the label.
    A label of the user's own is named ``package.module:function`` or ``folder/file.py:function``; such a file is run.

    Raises
    ------
    ConfigurationError
        The file is missing or does not parse; the component or a parameter is unknown or out of its bounds.

    Examples
    --------
    >>> load_label_set().component.name
    'triple_barrier'
    """
    file = read_set_file(DEFAULT_SET if source is None else source, "tapeline.labels", "label set")
    try:
        return parse_label_set(tomllib.loads(file.text), catalog=catalog, folder=file.folder)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"label set {file.name} is not valid TOML: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"label set {file.name}: {error.message}", hint=error.hint) from error


def parse_label_set(
    content: Mapping[str, Any], *, catalog: Catalog | None = None, folder: Path | None = None
) -> LabelSet:
    """Check the content of a label set file; see :func:`load_label_set`.

    Examples
    --------
    >>> parse_label_set({"name": "day", "component": "future_return", "horizon": 24}).parameters
    {'horizon': 24, 'kind': 'simple'}
    """
    try:
        file = _File.model_validate(dict(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"'{place}': {first['msg']}") from None
    if ":" in file.component:
        component = load_user_component(file.component, folder=folder)[0]
    else:
        component = (Catalog.discover(["tapeline.labels"]) if catalog is None else catalog)[file.component]
    if component.kind != "label":
        raise ConfigurationError(f"'{file.component}' is a {component.kind}, not a label")
    parameters = component.parameters(file.model_extra)
    return LabelSet(
        parse_name(file.name, "label set"),
        component,
        parameters,
        file.oldest_weight,
        file.delay_bars,
        file.delay_minutes,
    )


def compute(label_set: LabelSet, bars: pd.DataFrame, timeframe: Timeframe) -> pd.DataFrame:
    """Compute a label set with its sample weights.

    Returns
    -------
    A frame on ``ts``, matching ``labels_spec``: value, ``t_end``, outcome, weight. Bars whose label is not known yet
    are absent.

    Raises
    ------
    DataError
        The bars are unsorted or repeat a time, or the label breaks its contract (a label known before its bar's
        close, a missing value).
    """
    if not (bars.index.is_monotonic_increasing and bars.index.is_unique):
        raise DataError("bars are not sorted by time or repeat one", hint="read them from the clean zone")
    if "close_ts" not in bars.columns:
        bars = bars.assign(close_ts=timeframe.closes(pd.DatetimeIndex(bars.index)))
    labels = label_set.component.compute(bars, **label_set.parameters)
    lacking = {"value", "t_end", "outcome"} - set(labels.columns)
    if lacking:
        raise DataError(f"{label_set.component.name} returned no {sorted(lacking)}")
    if labels["value"].isna().any():
        raise DataError(f"{label_set.component.name} returned missing values", hint="leave undecided bars out")
    if (labels["t_end"] < timeframe.closes(pd.DatetimeIndex(labels.index))).any():
        raise DataError(f"{label_set.component.name} returned a t_end before the close of the labelled bar")
    if label_set.delayed:
        late = timedelta(minutes=label_set.delay_minutes)
        labels = delayed_labels(labels, bars, by_bars=label_set.delay_bars, by_time=late)
    weighted = with_weights(labels, bars, oldest=label_set.oldest_weight)
    return weighted[["value", "t_end", "outcome", "weight"]]
