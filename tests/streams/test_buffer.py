"""The tick buffer: the last ticks of each symbol, and never more memory than it was allowed."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.core.schemas import RAW_TICKS
from tapeline.core.symbol import Symbol
from tapeline.streams.buffer import CAPACITY, TickBuffer
from tapeline.streams.row_layouts import TICK, make_rows

EURUSD, GBPUSD = Symbol.parse("EURUSD"), Symbol.parse("GBPUSD")


def ticks(first: int, count: int) -> np.ndarray:
    number = np.arange(first, first + count)
    return make_rows(RAW_TICKS, ts=number, bid=number.astype(float), ask=2.0, known_at=number)


@given(st.integers(1, 200), st.lists(st.one_of(st.none(), st.integers(0, 450)), max_size=25), st.integers(0, 300))
def test_it_holds_what_a_bounded_deque_holds(capacity, steps, count):
    buffer, plain, number = TickBuffer(capacity), deque(maxlen=capacity), 0
    for step in steps:
        given_rows = ticks(number, 1 if step is None else step)
        if step is None:
            buffer.append(EURUSD, given_rows[0])
        else:
            buffer.extend(EURUSD, given_rows)
        plain.extend(given_rows["ts"].tolist())
        number += len(given_rows)
    assert buffer.last(EURUSD)["ts"].tolist() == list(plain)
    assert buffer.last(EURUSD, count)["ts"].tolist() == (list(plain)[-count:] if count else [])
    counted = buffer.counters()
    assert (counted.appended, counted.ticks) == (number, len(plain)) == (number, buffer.depth(EURUSD))
    assert (counted.overwritten, counted.squeezed) == (number - len(plain), 0)


def test_a_tuple_is_a_tick_too_and_what_is_read_is_a_copy():
    buffer = TickBuffer()
    buffer.append(EURUSD, (1, 0, 1.1, 1.2, np.nan, np.nan, 6, 5))
    held = buffer.last(EURUSD)
    assert (held["ask"][0], held["flags"][0], held["known_at"][0]) == (1.2, 6, 5)
    held["ask"] = 9.0
    assert buffer.last(EURUSD)["ask"][0] == 1.2


def test_rings_grow_with_their_use_and_stop_at_the_capacity():
    buffer = TickBuffer()
    buffer.extend(EURUSD, ticks(0, 3))
    assert buffer.counters().bytes < 100 * TICK.itemsize
    buffer.extend(EURUSD, ticks(3, 20_000))
    assert buffer.counters().bytes == CAPACITY * TICK.itemsize == 5_000 * 60
    assert buffer.last(EURUSD)["ts"].tolist() == list(range(15_003, 20_003))
    buffer.forget(EURUSD)
    assert (buffer.counters().bytes, buffer.symbols(), len(buffer.last(EURUSD))) == (0, [], 0)


def test_the_bound_on_memory_holds_and_every_symbol_has_room():
    bound = 100 * 64 * TICK.itemsize + 50_000
    buffer = TickBuffer(1000, maximum_symbols=100, maximum_bytes=bound)
    for round_ in range(5):
        for number in range(100):
            buffer.extend(Symbol.parse(f"S{number}"), ticks(round_ * 300, 300))
            assert buffer.counters().bytes <= bound
    counted = buffer.counters()
    assert counted.symbols == 100
    assert counted.squeezed > 0
    assert counted.appended == 150_000 == counted.ticks + counted.overwritten
    for number in range(100):
        held = buffer.last(Symbol.parse(f"S{number}"))["ts"].tolist()
        assert held == list(range(1500 - len(held), 1500))
        assert len(held) >= 64


def test_a_feed_cannot_invent_symbols_without_end():
    buffer = TickBuffer(maximum_symbols=1)
    buffer.append(EURUSD, ticks(0, 1)[0])
    with pytest.raises(ConfigurationError, match="GBPUSD would be number 2"):
        buffer.append(GBPUSD, ticks(0, 1)[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: TickBuffer(0),
        lambda: TickBuffer(maximum_symbols=0),
        lambda: TickBuffer(maximum_bytes=1000),
        lambda: TickBuffer().extend(EURUSD, np.zeros(3)),
        lambda: TickBuffer().last(EURUSD, -1),
    ],
)
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(ConfigurationError):
        make()


def test_threads_share_it():
    buffer = TickBuffer(100_000)

    def feed(symbol: Symbol) -> None:
        for number in range(300):
            buffer.append(symbol, ticks(number, 1)[0])
            buffer.append(EURUSD, ticks(number, 1)[0])

    threads = [threading.Thread(target=feed, args=(Symbol.parse(f"S{n}"),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert buffer.depth(EURUSD) == 1200
    assert np.bincount(buffer.last(EURUSD)["ts"]).tolist() == [4] * 300
