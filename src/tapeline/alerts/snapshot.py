"""The engine's state on disk: all arrays and rules, whole or not at all, and how far into each feed it is.

A file begins with a line that names the format and its version, then come the length of a JSON header, the header, the
arrays one after the other, and the SHA-256 of all before it. Nothing in it is executed: rules are data.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tapeline.alerts.engine.compiled import CompiledRule, Condition
from tapeline.alerts.engine.evaluator import Evaluator, Still
from tapeline.alerts.engine.layout import Indicator, Reading
from tapeline.alerts.json_parts import json_parts
from tapeline.core.errors import DataError

MAGIC: Final = b"tapeline alert engine 2\n"
"""The format; another version of it is another line."""
BEFORE: Final = b"tapeline alert engine 1\n"
"""As it was when price levels stood among the other rules: it is read as well."""
LARGEST_HEADER: Final = 1 << 30


def save_snapshot(evaluator: Evaluator | Still, path: Path, positions: Mapping[str, int]) -> int:
    """Write the state of an engine; the file is there whole, or the one before it still is.

    Parameters
    ----------
    evaluator:
        The engine where it stands still until this has returned, or what :meth:`Evaluator.still` gave.
    positions:
        How far each feed or journal has been taken in, by name: where to go on after :func:`load_snapshot`.

    Returns
    -------
    int
        Bytes written.
    """
    state = evaluator.state()
    header = {
        "symbols": list(evaluator.names),
        "positions": {name: int(position) for name, position in positions.items()},
        "rules": map(_rule_data, state.rules),
        "levels": map(_rule_data, state.levels),
        "sets": [[list(members), [_indicator_data(one) for one in wanted]] for members, wanted in state.sets],
        "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in state.arrays.items()],
    }
    text = list(json_parts(header))
    length = sum(map(len, text)).to_bytes(8, "little")
    arrays = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in state.arrays.values()]
    hashed = hashlib.sha256()
    beside = path.with_name(path.name + ".tmp")
    size = 0
    with beside.open("wb") as file:
        parts: list[Any] = [MAGIC, length, *text, *arrays]
        for part in parts:
            hashed.update(part)
            size += file.write(part)
        size += file.write(hashed.digest())
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size


def load_snapshot(path: Path) -> tuple[Evaluator, dict[str, int]]:
    """The engine as it was saved, and the positions given then; it goes on bit for bit as the saved one would have.

    Raises
    ------
    DataError
        The file is torn or altered, or of another version.
    """
    raw = path.read_bytes()
    if not raw.startswith((MAGIC, BEFORE)):
        raise DataError(f"{path} is not a snapshot of this version", hint="begin from bars of the past instead")
    if len(raw) < len(MAGIC) + 40 or hashlib.sha256(raw[:-32]).digest() != raw[-32:]:
        raise DataError(f"{path} is torn or was altered: its checksum does not match", hint="use the one before it")
    at = len(MAGIC) + 8
    length = int.from_bytes(raw[len(MAGIC) : at], "little")
    if length > min(LARGEST_HEADER, len(raw)):
        raise DataError(f"{path} holds a header of {length} bytes")
    try:
        header = json.loads(raw[at : at + length])
        at += length
        arrays: dict[str, NDArray[Any]] = {}
        for name, kind, shape in header["arrays"]:
            dtype, count = np.dtype(kind), int(np.prod(shape))
            arrays[name] = np.frombuffer(raw, dtype, count, at).reshape(shape).copy()
            at += dtype.itemsize * count
        rules = [_rule_of(data) for data in header["rules"]]
        levels = [_rule_of(data) for data in header.get("levels", ())]
        sets = [(tuple(members), [_indicator_of(one) for one in wanted]) for members, wanted in header["sets"]]
        evaluator = Evaluator.restored(header["symbols"], rules, sets, arrays, levels)
        positions = {str(name): int(position) for name, position in header["positions"].items()}
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise DataError(f"{path} does not hold what a snapshot holds: {error}") from error
    return evaluator, positions


def _rule_data(rule: CompiledRule) -> list[Any]:
    conditions = [
        [_reading_data(one.left), one.comparison, _reading_data(one.right), one.threshold, one.crossing, one.hysteresis,
         one.text]
        for one in rule.conditions
    ]  # fmt: skip
    return [
        rule.id,
        conditions,
        list(rule.program),
        rule.frequency,
        rule.cooldown,
        rule.bar,
        rule.close_of,
        rule.watched,
    ]


def _rule_of(data: list[Any]) -> CompiledRule:
    id, conditions, program, *rest = data
    made = []
    for left, comparison, right, *others in conditions:
        first = _reading_of(left)
        if first is None:
            raise ValueError("a condition without a left side")
        made.append(Condition(first, comparison, _reading_of(right), *others))
    return CompiledRule(id, tuple(made), tuple(program), *rest)


def _indicator_data(one: Indicator) -> list[Any]:
    return [*one[:7], _reading_data(one.left), _reading_data(one.right), one.key]


def _indicator_of(data: list[Any]) -> Indicator:
    *plain, left, right, key = data
    kind, timeframe, n, n2, n3, factor, closed = plain
    return Indicator(kind, timeframe, n, n2, n3, factor, closed, _reading_of(left), _reading_of(right), key)


def _reading_data(reading: Reading | None) -> list[Any] | None:
    return None if reading is None else [_indicator_data(reading[0]), reading[1]]


def _reading_of(data: list[Any] | None) -> Reading | None:
    return None if data is None else (_indicator_of(data[0]), data[1])
