"""Series that are computed outside the kernel, as records that it takes: pattern events, sentiment, account values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from tapeline.alerts.engine import kernel
from tapeline.alerts.engine.evaluator import Batch, Evaluator
from tapeline.alerts.operands import external
from tapeline.core.errors import DataError


class External(NamedTuple):
    """One value of a series.

    Attributes
    ----------
    ts:
        When it was known: nanoseconds since 1970 in UTC.
    symbol, key:
        Whose, and which series, such as ``pattern:double_top:1h``.
    value:
        A finite number; NaN: no longer known.
    event:
        Whether it holds for this record only.
    """

    ts: int
    symbol: str
    key: str
    value: float
    event: bool = False


def external_batch(engine: Evaluator, records: Iterable[External]) -> Batch:
    """The records that some rule reads, in their order, as the evaluator takes them.

    Raises
    ------
    DataError
        A value is infinite.
    """
    wanted: list[tuple[int, int, float, int, int]] = []
    for record in records:
        if record.value in (float("inf"), float("-inf")):
            raise DataError(f"{record.key} of {record.symbol} is infinite")
        number = engine.symbols.get(record.symbol)
        if number is None:
            continue
        try:
            place = engine.place(record.symbol, external(record.key)[0])
        except DataError:
            continue
        code = kernel.EVENT if record.event else kernel.VALUE
        wanted.append((number, record.ts, record.value, place, code))
    columns = list(zip(*wanted, strict=True)) or [()] * 5
    return Batch(
        np.array(columns[0], np.int32),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.float64),
        np.array(columns[3], np.float64),
        np.array(columns[4], np.uint8),
    )


def merged(batches: Sequence[Batch]) -> Batch:
    """Several batches as one, by time; at one time the earlier batches come first.

    Examples
    --------
    >>> ticks = Evaluator(["A"]).trades("A", [1, 3], [10.0, 11.0], [1.0, 1.0])
    >>> merged([ticks, ticks]).times.tolist()
    [1, 1, 3, 3]
    """
    times = np.concatenate([batch.times for batch in batches])
    order = np.argsort(times, kind="stable")
    return Batch(*(np.concatenate(columns)[order] for columns in zip(*batches, strict=True)))
