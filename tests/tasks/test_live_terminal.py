"""Live ticks of a simulated terminal into the lake, over restarts at random points."""

from __future__ import annotations

import asyncio
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapeline.core.schemas import RAW_TICKS
from tapeline.core.symbol import Symbol
from tapeline.lake.lake import Lake
from tapeline.sources.metatrader_structures import TICKS_DTYPE
from tapeline.streams.timing import Timing
from tasks.live_run import LiveRun
from tasks.live_terminal import TerminalVenue
from tasks.live_venue import TICK, parse_stream
from tests.sources.terminals import SECOND, session_of, terminal
from tests.tasks.live_support import running, settings_for, until

NAMES = ["bid", "ask", "last", "volume", "flags"]


def tape(stamps, values) -> np.ndarray:
    """Ticks at milliseconds after the start; few values, so that equal ticks share a millisecond."""
    array = np.zeros(len(stamps), dtype=TICKS_DTYPE)
    for i, (offset, value) in enumerate(zip(sorted(stamps), values, strict=True)):
        stamp = SECOND * 1000 + offset
        array[i] = (stamp // 1000, 1.09 + value / 1000, 1.1, 0.0, 0, stamp, 6, 0.0)
    return array


def live_on(package, root, wall_ms) -> LiveRun:
    """A run on a simulated terminal whose broker keeps UTC; our clock is the terminal's."""
    rules = settings_for(root).model_copy(
        update={"metatrader": settings_for(root).metatrader.model_copy(update={"utc_offset_hours": 0.0})}
    )
    timing = Timing(wall=lambda: wall_ms() * 1_000_000)
    venue = partial(TerminalVenue, session=lambda: session_of(package))
    return LiveRun(parse_stream("mt5", ["EURUSD"]), rules, venue=venue, timing=timing)


async def collect(package, root, now: list[int], offset: int, rows: int) -> None:
    """Run until the terminal's clock stands so many milliseconds after the start and so many rows came."""
    live = live_on(package, root, lambda: now[0])
    async with running(live):
        await until(lambda: live._venue is not None and live._venue._connected)
        now[0] = SECOND * 1000 + offset
        package.advance(now[0])
        await until(lambda: sum(tally.ticks for tally in live._sink.tallies.values()) >= rows)


def held(root) -> pd.DataFrame:
    return Lake(root / "data").read(RAW_TICKS, Symbol.parse("EURUSD"), TICK)


def expected(ticks: np.ndarray) -> list[tuple]:
    return sorted((int(row["time_msc"]) * 1_000_000, round(float(row["bid"]), 6)) for row in ticks)


def found(root) -> list[tuple]:
    rows = held(root)
    return sorted(zip(rows.index.as_unit("ns").asi8.tolist(), rows["bid"].round(6).tolist(), strict=True))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    offsets=st.lists(st.integers(1, 60), min_size=1, max_size=40),
    data=st.data(),
)
def test_no_gap_and_no_copy_over_restarts_at_random_points(offsets, data):
    ticks = tape(
        [offset * 100 for offset in offsets],
        data.draw(st.lists(st.integers(0, 1), min_size=len(offsets), max_size=len(offsets))),
    )
    stops = sorted(data.draw(st.sets(st.integers(1, 62), min_size=1, max_size=3)))
    package = terminal()
    package.load_ticks("EURUSD", ticks)
    now = [SECOND * 1000]

    async def run(root: Path):
        for stop in [*stops, 70]:
            arrived = int((ticks["time_msc"] <= SECOND * 1000 + stop * 100).sum()) + 1
            await collect(package, root, now, stop * 100, arrived - len(held(root)))

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        asyncio.run(run(root))
        first = [(SECOND * 1_000_000_000, 1.099)]  # the tick that the terminal had at the start
        assert found(root) == sorted(first + expected(ticks))
        rows = held(root)
        assert not rows.index.to_frame().assign(sequence=rows["sequence"]).duplicated().any()
        assert (rows["revision"] == 0).all()


def test_what_came_while_it_was_down_and_late_into_a_stored_millisecond_is_stored_once(tmp_path):
    package, now = terminal(), [SECOND * 1000]
    package.load_ticks("EURUSD", tape([1000, 1000, 2000], [1, 1, 2]))

    asyncio.run(collect(package, tmp_path, now, 2000, 4))
    assert len(held(tmp_path)) == 4
    # Late: one more of the stored millisecond, equal to a stored one; and ticks that came while nobody asked.
    package.load_ticks("EURUSD", tape([1000, 2000, 3000], [1, 5, 3]))
    asyncio.run(collect(package, tmp_path, now, 4000, 3))
    rows = held(tmp_path)
    assert len(rows) == 7
    assert rows["revision"].eq(0).all()
    stamps = ((rows.index - pd.Timestamp(SECOND, unit="s", tz="UTC")) / pd.Timedelta(milliseconds=1)).astype(int)
    assert list(zip(stamps, rows["sequence"], strict=True)) == [
        (0, 0),
        (1000, 0),
        (1000, 1),
        (1000, 2),
        (2000, 0),
        (2000, 1),
        (3000, 0),
    ]


def test_a_lost_terminal_is_entered_again_and_nothing_is_lost(tmp_path):
    package, now = terminal(), [SECOND * 1000]
    package.load_ticks("EURUSD", tape([100, 200, 300], [1, 2, 3]))

    async def run():
        live = live_on(package, tmp_path, lambda: now[0])
        async with running(live):
            await until(lambda: live._venue is not None and live._venue._connected)
            package.fail(-10005, times=2)
            package.advance(SECOND * 1000 + 300)
            await until(lambda: sum(tally.ticks for tally in live._sink.tallies.values()) == 4)
        return live.status()

    status = asyncio.run(run())
    assert status.reconnects >= 1
    assert len(found(tmp_path)) == 4
    assert status.symbols[0]["spread_bps"] == pytest.approx(2e4 * (1.1 - 1.093) / (1.1 + 1.093))
