"""Delays: the published generator, the distributions, and a replay in which no order changes another."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError
from tapeline.strategy.latency import (
    MISS_DRAW,
    Latency,
    delay,
    draw,
    first_at,
    missed,
    mixed,
    order_number,
    parse_latency,
)
from tapeline.strategy.simulator import simulate
from tests.core.samples import eurusd
from tests.support import make_bars

EMPIRICAL = (3.0, 5.0, 5.0, 40.0)
DISTRIBUTIONS = [
    Latency(kind="constant", median_ms=12, seed=3),
    Latency(kind="uniform", low_ms=5, high_ms=25, seed=3),
    Latency(kind="lognormal", median_ms=20, sigma=0.5, seed=3),
    Latency(kind="empirical", samples_ms=EMPIRICAL, seed=3),
]
MANY = np.arange(20_000)


def milliseconds(latency: Latency, orders=MANY) -> np.ndarray:
    return latency.delays(orders).to_numpy().astype("m8[ns]").astype(np.int64) / 1e6


def test_the_generator_is_the_published_one() -> None:
    # The first five numbers of splitmix64.c seeded with 1234567.
    golden = 0x9E3779B97F4A7C15
    found = [int(mixed(np.uint64((1234567 + golden * (step + 1)) % 2**64))) for step in range(5)]
    assert found == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip


def test_draws_are_spread_evenly_and_do_not_depend_on_each_other() -> None:
    from scipy.stats import kstest, pearsonr

    draws = np.array([[draw(9, order, number) for number in range(3)] for order in range(20_000)])
    assert ((draws > 0) & (draws < 1)).all()
    for column in draws.T:
        assert kstest(column, "uniform").pvalue > 0.001
    for one, other in ((draws[:, 0], draws[:, 1]), (draws[1:, 0], draws[:-1, 0]), (draws[1:, 1], draws[:-1, 2])):
        assert abs(pearsonr(one, other).statistic) < 4 / math.sqrt(20_000)
    assert len(np.unique(draws)) == draws.size


def test_the_distributions_are_what_they_are_called() -> None:
    from scipy.stats import kstest, lognorm, uniform

    constant, even, skewed, resampled = (milliseconds(latency) for latency in DISTRIBUTIONS)
    assert (constant == 12).all()
    assert kstest(even, uniform(5, 20).cdf).pvalue > 0.001
    assert kstest(skewed, lognorm(s=0.5, scale=20).cdf).pvalue > 0.001
    values, counts = np.unique(resampled, return_counts=True)
    assert values.tolist() == [3.0, 5.0, 40.0]
    np.testing.assert_allclose(counts / 20_000, [0.25, 0.5, 0.25], atol=0.015)
    cut = milliseconds(Latency(kind="lognormal", median_ms=20, sigma=1, low_ms=10, high_ms=30, seed=1))
    assert (cut.min(), cut.max()) == (10.0, 30.0)


@pytest.mark.parametrize("latency", DISTRIBUTIONS, ids=lambda latency: latency.kind)
@given(orders=st.lists(st.integers(0, 2**62), min_size=1, max_size=20, unique=True), data=st.data())
@settings(max_examples=25, deadline=None)
def test_no_order_changes_the_delay_of_another(latency, orders, data) -> None:
    alone = {order: int(delay(latency.compiled(), order)) for order in orders}
    shuffled = data.draw(st.permutations(orders))
    some = shuffled[: data.draw(st.integers(1, len(orders)))]
    together = latency.delays(some)
    assert [int(each.value) for each in together] == [alone[order] for order in some]
    assert min(alone.values()) >= 0


def test_another_seed_is_another_replay_and_the_same_one_is_the_same() -> None:
    for latency in DISTRIBUTIONS[1:]:
        other = latency.model_copy(update={"seed": 4})
        assert (milliseconds(latency) == milliseconds(latency.model_copy())).all()
        assert (milliseconds(latency) != milliseconds(other)).mean() > 0.5
        # Nor is it the same replay one order later.
        assert (milliseconds(latency)[1:] != milliseconds(other)[:-1]).mean() > 0.5


def slow_draw(seed: int, order: int, number: int) -> float:
    """The draw in Python's whole numbers."""
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1

    def mix(z: int) -> int:
        z &= mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    state = mix(seed + golden)
    state = mix(state ^ mix(order * golden + 1))
    return ((mix(state + number * golden) >> 12) + 0.5) * 2.0**-52


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1), st.integers(0, 2**31))
@settings(max_examples=80, deadline=None)
def test_a_draw_is_a_pure_function_of_seed_order_and_number(seed, order, number) -> None:
    assert draw(np.uint64(seed), order, number) == slow_draw(seed, order, number)


def test_the_replay_is_pinned() -> None:
    # Recorded when this was written: a change of the generator would change every user's replay.
    assert [int(each.value) for each in DISTRIBUTIONS[1].delays([0, 1, 2])] == [10662175, 14782821, 9053867]


@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=50, unique=True), st.integers(-5, 10_005), st.integers(0, 49)
)
@settings(max_examples=80, deadline=None)
def test_an_order_is_live_at_the_first_time_at_or_after_its_arrival(times, arrival, start) -> None:
    rows = np.sort(np.array(times))
    start = min(start, rows.size)
    found = first_at(rows, arrival, start)
    slow = next((row for row in range(start, rows.size) if rows[row] >= arrival), rows.size)
    assert found == slow


def test_an_order_sent_at_a_close_is_live_at_the_next_open_that_it_reaches() -> None:
    opens = pd.DatetimeIndex(eurusd().index[:300])
    sent = opens[:200] + pd.Timedelta("1h")
    orders = np.arange(200)
    none = Latency().live_rows(opens, sent, orders)
    late = Latency(kind="uniform", low_ms=1, high_ms=50, seed=1).live_rows(opens, sent, orders)
    next_open = opens[1:201] == sent
    # In a run of hours without a gap the next open is the close: without delay it is met, with one it is missed.
    assert (none[next_open] == np.arange(1, 201)[next_open]).all()
    assert (late[next_open] == np.arange(2, 202)[next_open]).all()
    # Over a weekend there is time enough.
    assert (~next_open).any()
    assert (late[~next_open] == none[~next_open]).all()
    assert Latency().live_rows(opens, sent[:1] + pd.Timedelta("1000D"), [0]).tolist() == [300]


def test_chances_are_missed_as_often_as_said_and_by_their_number() -> None:
    for probability in (0.0, 0.2, 1.0):
        share = np.mean([missed(5, order, chance, probability) for order in range(2_000) for chance in range(3)])
        assert share == pytest.approx(probability, abs=0.02)
    assert [missed(5, 1, chance, 0.5) for chance in range(20)] == [draw(5, 1, MISS_DRAW + n) < 0.5 for n in range(20)]
    # More probability never makes a miss a hit.
    assert all(missed(5, n, 0, 0.6) for n in range(500) if missed(5, n, 0, 0.3))


def test_names_of_orders_have_numbers() -> None:
    numbers = {order_number(f"order-{each}") for each in range(1_000)}
    assert len(numbers) == 1_000
    assert all(0 <= number < 2**63 for number in numbers)
    assert Latency(seed=1).delays([order_number("a")]).size == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"kind": "gamma"}, "kind"),
        ({"kind": "uniform"}, "high_ms"),
        ({"kind": "uniform", "low_ms": 5, "high_ms": 4}, "below low_ms"),
        ({"kind": "lognormal"}, "median_ms"),
        ({"kind": "empirical"}, "samples_ms"),
        ({"samples_ms": [1.0]}, "samples_ms"),
        ({"kind": "empirical", "samples_ms": [-1.0]}, "-1 ms"),
        ({"median_ms": math.nan}, "median_ms"),
        ({"seed": -1}, "seed"),
        ({"jitter": 1}, "jitter"),
    ],
)
def test_a_distribution_that_is_none_is_refused(wrong, told) -> None:
    with pytest.raises(ConfigurationError, match=told):
        parse_latency(wrong)
    assert parse_latency({"median_ms": 5.0}) == Latency(median_ms=5)


def test_the_simulator_fills_a_delayed_order_at_the_open_that_it_reaches() -> None:
    bars = make_bars(200, timeframe="M15")
    opens, closes = pd.DatetimeIndex(bars.index), pd.DatetimeIndex(bars["close_ts"])
    latency = Latency(kind="uniform", low_ms=1, high_ms=3_600_000, seed=1)
    numbers = np.arange(200)
    decided = numbers[3:190:20]
    decisions = pd.DataFrame({"target": np.arange(1.0, decided.size + 1)}, index=opens[decided])
    # Orders reach the simulator in the order of their bars: one without a decision is not under way.
    delays = np.where(np.isin(numbers, decided), latency.delays(numbers).as_unit("ns").asi8, 0)
    fills = simulate(bars, decisions, latency=delays).fills
    expected = latency.live_rows(opens, closes[decided], decided)
    assert len(np.unique(expected - decided)) > 1
    assert fills["ts"].tolist() == opens[expected].tolist()
