"""Quarantine: the rows that a check refused, kept as they came, each with its reasons."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tapeline.core.errors import SchemaError
from tapeline.core.schemas import PROVENANCE_COLUMNS
from tapeline.core.versions import digest_bytes
from tapeline.quality.checks import Checked, describe

_ARRIVAL: Final = ("known_at", "known_at_is_estimate", "source", "revision", *PROVENANCE_COLUMNS)
_NOT_FINITE: Final = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}


def quarantine(bars: pd.DataFrame, checked: Checked, *, stage: str, source: str) -> pd.DataFrame:
    """The refused rows of a batch as rows of the quarantine table.

    Parameters
    ----------
    bars, checked:
        The whole batch as it was checked, and its verdict.
    stage, source:
        Which check refused the rows, and where they came from.

    Returns
    -------
    A frame of :data:`tapeline.core.schemas.QUARANTINE`, indexed by ``ts``, sorted. ``id`` is a hash of stage, source,
    time, reasons and values, not of the row number or of when the row arrived: the same bad row twice is one row.

    Examples
    --------
    >>> from tapeline.quality.checks import check_bars
    >>> ts = pd.DatetimeIndex(["2017-01-02 09:00"], tz="UTC", name="ts")
    >>> bars = pd.DataFrame({"open": [1.0], "high": 0.8, "low": 0.9, "close": 0.85, "volume": 5.0}, index=ts)
    >>> rows = quarantine(bars, check_bars(bars, "H1"), stage="values", source="sample")
    >>> rows["reasons"].iloc[0]
    ['high_below_low: the high lies below the low']
    """
    refused = np.flatnonzero(~checked.passed)
    masks, which = np.unique(checked.mask[refused], return_inverse=True)
    sentences = [describe(int(mask)) for mask in masks]
    frame = bars.iloc[refused]
    stamps = _instants(frame["ts"] if "ts" in frame.columns else frame.index.to_series())
    if "ts" not in frame.columns:
        frame = frame.rename_axis("ts").reset_index()
    return _table(
        stamps,
        json_records(frame),
        json_records(frame.drop(columns=[name for name in _ARRIVAL if name in frame.columns])),
        [sentences[i] for i in which],
        refused,
        stage=stage,
        source=source,
    )


def quarantine_rejected(rejected: pd.DataFrame, *, stage: str, source: str) -> pd.DataFrame:
    """The rows that a source could not even read as bars, as rows of the quarantine table.

    Parameters
    ----------
    rejected:
        What a source hands over beside its bars: ``row_number``, ``record`` (the row as JSON text) and ``reasons`` (a
        list of texts a row), which come out under the code ``unreadable``. The rows stand at the epoch.

    Raises
    ------
    SchemaError
        One of the columns is missing, or a row gives no reason.

    Examples
    --------
    >>> rejected = pd.DataFrame({"row_number": [3], "record": ['{"vix": "."}'], "reasons": [["no value for the day"]]})
    >>> quarantine_rejected(rejected, stage="ingest", source="sample")["reasons"].iloc[0]
    ['unreadable: no value for the day']
    """
    absent = [name for name in ("row_number", "record", "reasons") if name not in rejected.columns]
    if absent:
        raise SchemaError(f"rejected rows lack the columns {absent}")
    why = [[f"unreadable: {text}" for text in texts] for texts in rejected["reasons"]]
    if not all(why):
        raise SchemaError("a rejected row has no reason", hint="a source says why it could not read a row")
    records = [str(record) for record in rejected["record"]]
    stamps = pd.DatetimeIndex(np.zeros(len(records), dtype="M8[ns]")).tz_localize("UTC")
    return _table(stamps, records, records, why, rejected["row_number"].to_numpy(), stage=stage, source=source)


def json_records(frame: pd.DataFrame) -> list[str]:
    """Each row of a frame as one JSON object, every number in its shortest exact form.

    JSON has no word for what is not finite: it is written as the texts ``NaN``, ``Infinity`` and ``-Infinity``, so that
    it stays apart from an absent cell, which is null.

    Examples
    --------
    >>> json_records(pd.DataFrame({"open": [1.05, float("inf")], "note": ["a", None]}))
    ['{"open": 1.05, "note": "a"}', '{"open": "Infinity", "note": null}']
    """
    if frame.empty:
        return ["{}"] * len(frame)
    parts: list[Any] = []
    for position, name in enumerate(frame.columns):
        parts.append(f"{', ' if position else '{'}{json.dumps(str(name), ensure_ascii=False)}: ")
        parts.append(_json_cells(frame.iloc[:, position]))
    return pc.binary_join_element_wise(*parts, "}", "").to_pylist()


def _table(
    stamps: pd.DatetimeIndex,
    records: Sequence[str],
    identity: Sequence[str],
    reasons: Sequence[list[str]],
    numbers: np.ndarray,
    *,
    stage: str,
    source: str,
) -> pd.DataFrame:
    lead = (stage.encode(), source.encode())
    ids = [
        digest_bytes(
            *lead, stamp.to_bytes(8, "little", signed=True), content.encode(), *(text.encode() for text in why)
        )
        for stamp, content, why in zip(stamps.asi8.tolist(), identity, reasons, strict=True)
    ]
    rows = pd.DataFrame(
        {
            "id": pd.array(ids, dtype="str"),
            "stage": pd.array([stage] * len(ids), dtype="str"),
            "source": pd.array([source] * len(ids), dtype="str"),
            "row_number": np.asarray(numbers, dtype=np.int64),
            "reasons": pd.Series(list(reasons), dtype=object, index=stamps),
            "record": pd.array(list(records), dtype="str"),
        },
        index=stamps.rename("ts"),
    )
    first = ~rows["id"].duplicated().to_numpy()
    order = np.argsort(stamps.asi8, kind="stable")
    return rows.iloc[order[first[order]]]


def _instants(held: pd.Series) -> pd.DatetimeIndex:
    """The times that can be read, the epoch elsewhere: a quarantined row may have any rubbish for a time."""
    epoch = pd.Timestamp(0, tz="UTC")
    if isinstance(held.dtype, pd.DatetimeTZDtype):
        low, high = pd.Timestamp.min.tz_localize("UTC"), pd.Timestamp.max.tz_localize("UTC")
        return pd.DatetimeIndex(held.where((held >= low) & (held <= high), epoch)).as_unit("ns").tz_convert("UTC")
    return pd.DatetimeIndex(np.zeros(len(held), dtype="M8[ns]")).tz_localize("UTC")


def _json_cells(column: pd.Series) -> pa.Array:
    kind = column.dtype.kind
    if isinstance(column.dtype, np.dtype) and kind in "fiub":
        text = pc.cast(pa.array(column.to_numpy()), pa.string())
        if kind == "f":
            for plain, quoted in _NOT_FINITE.items():
                text = pc.if_else(pc.equal(text, plain), quoted, text)
        return text
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        # In the column's own unit and zone a time reads exactly as it came, even beyond what nanoseconds can hold.
        text = pc.cast(pa.array(column.dt.tz_convert("UTC").dt.tz_localize(None)), pa.string())
        return pc.fill_null(pc.binary_join_element_wise('"', text, 'Z"', ""), "null")
    if column.dtype != object:  # texts and categories mark an absent cell in their own way
        column = column.astype(object).where(column.notna(), None)
    return pa.array([_json_cell(value) for value in column], pa.string())


def _json_cell(value: Any) -> str:
    if value is None or value is pd.NaT or value is pd.NA:
        return "null"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return _NOT_FINITE[repr(value)]
    return json.dumps(value, ensure_ascii=False, default=str)
