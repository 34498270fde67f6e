"""A snapshot goes on bit for bit, and a torn one is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tapeline.alerts.engine import evaluator, table
from tapeline.alerts.engine import indicators as kinds
from tapeline.alerts.engine.compiled import CompiledRule, Condition
from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.engine.layout import Indicator
from tapeline.alerts.snapshot import BEFORE, MAGIC, load_snapshot, save_snapshot
from tapeline.core.errors import DataError
from tests.alerts.engine.cases import as_batch, make_case, run_kernel


@pytest.mark.parametrize("seed", range(8))
def test_goes_on_bit_for_bit(seed: int, tmp_path: Path) -> None:
    case = make_case(seed, 300)
    half = len(case.records) // 2
    case.changes = {at: change for at, change in case.changes.items() if at < half}
    rest = case.records[half:]
    case.records = case.records[:half]
    _, engine = run_kernel(case, set(), neighbours=3)
    path = tmp_path / "engine.snapshot"
    size = save_snapshot(engine, path, {"binance": 17})
    assert path.stat().st_size == size
    loaded, positions = load_snapshot(path)
    assert positions == {"binance": 17}
    assert loaded.names == engine.names
    assert loaded.rules("S") == engine.rules("S")
    before, after = engine.process(as_batch(engine, rest)), loaded.process(as_batch(loaded, rest))
    assert before.firings.tobytes() == after.firings.tobytes()
    assert before.sides.tobytes() == after.sides.tobytes()
    assert [engine.rule(int(one)).id for one in before.firings["rule"]] == [
        loaded.rule(int(one)).id for one in after.firings["rule"]
    ]
    for name, array in engine.state().arrays.items():
        assert array.tobytes() == loaded.state().arrays[name].tobytes(), name
    # And it takes rules as before.
    loaded.remove(loaded.rules("S")[0].id, ["S"])
    loaded.compact()


def test_a_file_that_is_torn_altered_or_of_another_version_is_refused(tmp_path: Path) -> None:
    _, engine = run_kernel(make_case(1), set())
    path = tmp_path / "engine.snapshot"
    save_snapshot(engine, path, {})
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    for cut in rng.integers(0, len(raw), 20):
        path.write_bytes(raw[: int(cut)])
        with pytest.raises(DataError):
            load_snapshot(path)
    for place in rng.integers(len(MAGIC), len(raw), 20):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(DataError, match="checksum"):
            load_snapshot(path)
    path.write_bytes(raw.replace(b"engine 2\n", b"engine 9\n", 1))
    with pytest.raises(DataError, match="version"):
        load_snapshot(path)
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"


def test_one_from_before_levels_had_their_own_place_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close = (Indicator(kinds.CLOSE, 60_000_000_000), 0)
    rules = [CompiledRule(f"r{n}", (Condition(close, table.ABOVE, threshold=100.0 + n),)) for n in range(3)]
    with monkeypatch.context() as patch:
        patch.setattr(evaluator, "is_level", lambda rule: False)
        engine = Evaluator(["S"])
        engine.add_all([(rule, ["S"]) for rule in rules])
    engine.process(engine.trades("S", [0, 1], np.array([99.0, 101.5]), np.ones(2)))
    path = tmp_path / "engine.snapshot"
    save_snapshot(engine, path, {})
    raw = path.read_bytes().removeprefix(MAGIC)[:-32]
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert header.pop("levels") == []
    assert header["arrays"].pop()[0] == "levels"
    text = json.dumps(header).encode()
    made = BEFORE + len(text).to_bytes(8, "little") + text + raw[8 + length :]
    path.write_bytes(made + hashlib.sha256(made).digest())
    loaded, _ = load_snapshot(path)
    loaded.add_all([(rule, ["S"]) for rule in rules])
    assert loaded.rules("S") == tuple(rules), "those that are there are left as they are"
    fired = loaded.process(loaded.trades("S", [2, 3], np.array([101.6, 102.5]), np.ones(2))).firings
    assert [loaded.rule(int(one)).id for one in fired["rule"]] == ["r2"]
