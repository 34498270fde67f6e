"""The sampling controller: bounded, with hysteresis, the same in chunks; its loss measured by brute force."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline.candles.records import records_from
from tapeline.candles.sampling import SamplingController, fixed_samples, information_loss, saving
from tapeline.core.errors import ConfigurationError, DataError

SECOND = 1_000_000_000


def ticks_at(seconds, prices) -> pd.DataFrame:
    start = 1_400_000_000 * SECOND
    index = pd.DatetimeIndex((start + (np.asarray(seconds) * SECOND).astype(np.int64)).view("M8[ns]"), name="ts")
    return pd.DataFrame({"last": prices}, index=index.tz_localize("UTC"))


def tape(calm: int, busy: int, seed: int = 0) -> pd.DataFrame:
    """A tick every two seconds, then ten a second with moves twice as large, then calm again."""
    generator = np.random.default_rng(seed)
    waits = np.r_[np.full(calm, 2.0), np.full(busy, 0.1), np.full(calm, 2.0)]
    moves = generator.normal(0, 1e-5, waits.size) * np.r_[np.ones(calm), np.full(busy, 2.0), np.ones(calm)]
    return ticks_at(np.cumsum(waits), 1.1 + np.cumsum(moves))


def sample(ticks, **options):
    return SamplingController(**options).update(ticks, price="last")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, 2500), max_size=8).map(sorted))
def test_chunks_are_one_batch(seed, cuts):
    ticks = tape(500, 1500, seed)
    whole = sample(ticks)
    controller, parts = SamplingController(), []
    for start, end in zip([0, *cuts], [*cuts, len(ticks)], strict=True):
        parts.append(controller.update(ticks.iloc[start:end], price="last"))
        saved = json.loads(json.dumps(controller.state()))
        controller = SamplingController()
        controller.restore(saved)
    for j in range(3):
        np.testing.assert_array_equal(np.concatenate([part[j] for part in parts]), whole[j])


def test_chunks_that_end_before_the_next_sample_is_due_are_one_batch_too():
    ticks = tape(500, 1500, 0)
    whole, controller = sample(ticks), SamplingController()
    parts = [controller.update(ticks.iloc[place : place + 1], price="last") for place in range(len(ticks))]
    np.testing.assert_array_equal(np.concatenate([part.ts for part in parts]), whole.ts)
    assert min(len(part.ts) for part in parts) == 0


def test_shorter_when_busy_and_longer_in_quiet():
    ticks = tape(3000, 6000)
    samples = sample(ticks)
    since = (samples.ts - ticks.index.asi8[0]) / SECOND
    calm = samples.interval[(since > 1000) & (since < 5900)].mean()
    busy = samples.interval[(since > 6100) & (since < 6550)].mean()
    later = samples.interval[since > 9000].mean()
    assert busy < 0.4 * calm
    assert later > 2.0 * busy


def test_the_interval_stays_within_its_bounds():
    samples = sample(tape(3000, 6000), base=4.0, shortest=3.0, longest=5.0)
    assert samples.interval.min() >= 3 * SECOND
    assert samples.interval.max() <= 5 * SECOND
    assert len(np.unique(samples.interval)) > 2
    silence = sample(ticks_at([0, 1, 2, 3, 50_000], [1.0, 1.1, 1.0, 1.1, 1.0]), base=1.0, longest=30.0)
    assert silence.interval[-1] == 30 * SECOND


def test_hysteresis_keeps_the_interval_still():
    ticks = tape(6000, 10)
    changes = [
        int((np.diff(sample(ticks, hysteresis=width, patience=patience).interval) != 0).sum())
        for width, patience in ((0.0, 1), (0.1, 2), (0.5, 4))
    ]
    assert changes[0] > 1.5 * changes[1] > 2.0 * changes[2]


def test_samples_hold_the_last_known_price_and_look_no_further():
    ticks = tape(300, 900)
    whole = sample(ticks)
    stamps = ticks.index.asi8
    for ts, price in zip(whole.ts, whole.price, strict=True):
        assert price == ticks["last"].to_numpy()[stamps <= ts][-1]
    np.testing.assert_array_equal(np.diff(whole.ts), whole.interval[:-1])
    early = sample(ticks.iloc[:700])
    for j in range(3):
        np.testing.assert_array_equal(early[j], whole[j][: early.ts.size])


def test_the_loss_is_that_of_brute_force():
    generator = np.random.default_rng(1)
    seconds = np.cumsum(generator.integers(0, 5, 300))
    ticks = ticks_at(seconds, 1.0 + generator.random(300))
    records = records_from(ticks, price="last")
    for samples in (fixed_samples(records, 7.0), sample(ticks, base=5.0)):
        grid = np.arange(seconds[0], seconds[-1]) * SECOND + 1_400_000_000 * SECOND
        price = records.close[np.searchsorted(records.ts, grid, side="right") - 1]
        held = samples.price[np.searchsorted(samples.ts, grid, side="right") - 1]
        if (samples.interval % SECOND).any():
            continue
        np.testing.assert_allclose(information_loss(records, samples), np.sqrt(np.mean((price - held) ** 2)))


def test_saving_is_zero_against_itself_and_positive_where_activity_varies():
    records = records_from(tape(3000, 6000), price="last")
    share, interval = saving(records, fixed_samples(records, 20.0))
    assert abs(share) < 0.1
    assert interval == pytest.approx(20.0, rel=0.1)
    share, _ = saving(records, SamplingController().update(records))
    assert share > 0.2


def test_wrong_use_is_refused():
    for options, message in (
        ({"base": 0.0}, "base = 0.0"),
        ({"base": 500.0}, "base = 500.0"),
        ({"fast": 1e6}, "fast = 1000000.0"),
        ({"hysteresis": -1.0}, "hysteresis = -1.0"),
        ({"patience": 0}, "patience = 0"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            SamplingController(**options)
    controller = SamplingController()
    ticks = ticks_at([0, 5, 30], [1.0, 1.1, 1.2])
    controller.update(ticks, price="last")
    with pytest.raises(DataError, match="go back in time"):
        controller.update(ticks, price="last")
    before = controller.state()
    far = ticks_at([4e9], [1.0])
    with pytest.raises(DataError, match="more than 10000000 samples"):
        controller.update(far, price="last")
    assert controller.state() == before
    with pytest.raises(ConfigurationError):
        SamplingController(base=20.0).restore(before)
    with pytest.raises(DataError, match="cannot be compared"):
        saving(records_from(ticks, price="last"), fixed_samples(records_from(ticks, price="last"), 1000.0))
