"""A polled source after a downtime: page by page, in order, late; or a gap that is said."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from tapeline.alerts.engine.kernel import GAP, TRADE
from tapeline.alerts.feeds.batcher import SECOND, Batcher
from tapeline.alerts.feeds.data_manager import DataManager
from tapeline.alerts.feeds.missed_bars import ALPHA_VANTAGE_MONTHS, DAY, YAHOO_MINUTES, MissedBars
from tapeline.alerts.feeds.polled_bars import bar_ticks, parse_alpha_vantage, parse_yahoo
from tapeline.alerts.feeds.polling import BarTaker, Poller, Quota, alpha_vantage_fetch, yahoo_fetch
from tapeline.alerts.feeds.source_names import SourceName
from tapeline.streams.alerts import FeedAlert
from tests.alerts.feeds.test_polling import Clock, alpha_vantage, yahoo

NOW = 1_700_000_000 // DAY * DAY + 50_000
STEP = 7_200
"""A bar each two hours, a minute long: enough for the order and cheap."""


def opens(begin: int, end: int) -> list[int]:
    """The opens of all bars that the venue has from one instant to before another."""
    return list(range(-(-begin // STEP) * STEP, end, STEP))


class Venue:
    """Answers as the two services do, within their limits; what lies behind its ``kept`` seconds is gone."""

    def __init__(self, clock: Clock, kept: int, closed: tuple[int, int] = (0, 0)) -> None:
        self.clock, self.kept, self.closed = clock, kept, closed
        self.asked: list[Mapping[str, str]] = []

    async def get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        self.asked.append(dict(parameters))
        now = int(self.clock.now)
        if "period1" in parameters:
            begin, end = int(parameters["period1"]), int(parameters["period2"])
            assert end - begin <= 8 * DAY
            assert begin >= now - self.kept
        elif "month" in parameters:
            at = datetime.strptime(parameters["month"], "%Y-%m").replace(tzinfo=UTC)
            begin, end = int(at.timestamp()), int(at.replace(month=at.month % 12 + 1).timestamp())
        else:
            begin, end = now - DAY, now
        some = [one for one in opens(begin, min(end, now)) if not self.closed[0] <= one < self.closed[1]]
        if path != "/query":
            return yahoo([(one, 10.0, 12.0, 9.0, 11.0, 8) for one in some])
        cells = {"1. open": "10", "2. high": "12", "3. low": "9", "4. close": "11", "5. volume": "8"}
        return alpha_vantage({f"{datetime.fromtimestamp(one, UTC):%Y-%m-%d %H:%M:%S}": cells for one in some})


class Story:
    """A service that was away since ``last`` (seconds), and polls until it is at the present."""

    def __init__(self, source: str, last: int, *, kept: int = 10_000 * DAY, closed: tuple[int, int] = (0, 0)) -> None:
        self.clock = Clock()
        self.clock.now = float(NOW)
        self.alerts: list[FeedAlert] = []
        self.batcher = Batcher({"A": 0})
        timing, before = self.clock.timing, {f"{source}:A": last * 4 + 3} if last else {}
        self.manager = DataManager(self.batcher, positions=before, timing=timing, on_alert=self.alerts.append)
        self.manager.watch("A", [SourceName(source, "A", stale_after=1e9, own_clock=True)])
        self.venue = Venue(self.clock, kept, closed)
        is_yahoo = source == "yahoo"
        missed = MissedBars(self.manager, source, YAHOO_MINUTES if is_yahoo else ALPHA_VANTAGE_MONTHS, timing=timing)
        fetch = (
            yahoo_fetch(self.venue, missed=missed) if is_yahoo else alpha_vantage_fetch(self.venue, "K", missed=missed)
        )
        taker = BarTaker(
            source, self.manager, parse_yahoo if is_yahoo else parse_alpha_vantage, missed=missed, timing=timing
        )
        self.poller = Poller(source, ["A"], fetch, taker, Quota([(2, 60.0)], timing=timing), timing=timing)

    def polled(self, times: int) -> list[tuple[int, int, bool]]:
        """What the batcher has after so many questions: code, second and late."""

        async def run() -> None:
            for _ in range(times):
                self.clock.now += 60.0
                assert await self.poller.poll("A") == 0.0

        asyncio.run(run())
        found = []
        while (made := self.batcher.flush(0, force=True)) is not None:
            batch, taken = made
            found += zip(batch.records.tolist(), (batch.times // SECOND).tolist(), taken.late.tolist(), strict=True)
        return [one for one in found if one[0] in (TRADE, GAP)]


def opened(found: list[tuple[int, int, bool]]) -> list[int]:
    """The opens of the bars whose trades were given, each once and in order."""
    times = [ts for code, ts, _ in found if code == TRADE]
    assert times == sorted(times)
    assert len(times) % 4 == 0
    return times[::4]


@pytest.mark.parametrize("source", ["yahoo", "alpha_vantage"])
def test_twenty_days_away_are_asked_for_page_by_page_and_are_late(source: str) -> None:
    last = opens(NOW - 20 * DAY, NOW)[0]
    story = Story(source, last)
    found = story.polled(6)
    assert opened(found) == opens(last + 1, int(story.clock.now) - 60)
    assert not any(code == GAP for code, *_ in found)
    # Late is what was missed; what has just ended is not.
    assert {late for _, ts, late in found if ts < NOW - 2 * STEP} == {True}
    assert story.polled(1) == []
    paged = [one for one in story.venue.asked if "period1" in one or "month" in one]
    assert 2 <= len(paged) <= len(story.venue.asked) == 7
    assert story.poller.quota.spent == 7


def test_a_page_without_a_bar_does_not_end_the_way() -> None:
    last = opens(NOW - 20 * DAY, NOW)[0]
    story = Story("yahoo", last, closed=(last + 1, last + 9 * DAY))
    assert opened(story.polled(5)) == opens(last + 9 * DAY, int(story.clock.now) - 60)


def test_what_the_source_has_no_longer_is_a_gap_in_its_place() -> None:
    story = Story("yahoo", NOW - 60 * DAY, kept=30 * DAY)
    found = story.polled(8)
    assert [code for code, *_ in found].count(GAP) == 1
    assert found[0][0] == GAP
    assert opened(found) == opens(found[0][1], int(story.clock.now) - 60)
    assert found[0][1] - (NOW - 30 * DAY) < DAY
    assert [one.kind for one in story.alerts] == ["gap_unfilled"]
    assert "no longer to be had" in story.alerts[0].detail


def test_where_nothing_was_taken_before_nothing_was_missed() -> None:
    story = Story("yahoo", 0)
    found = story.polled(2)
    assert {late for *_, late in found} == {False}
    assert story.venue.asked[0] == {"interval": "1m", "range": "1d"}
    standby = Story("yahoo", NOW - 3 * DAY)
    standby.manager.watch("A", [SourceName("binance", "A"), SourceName("yahoo", "A", own_clock=True)])
    standby.polled(1)
    assert standby.venue.asked == [{"interval": "1m", "range": "1d"}]
    assert bar_ticks("A", parse_yahoo(yahoo([(60, 10.0, 12.0, 9.0, 11.0, 8)])).bars[0])[0].late is False
