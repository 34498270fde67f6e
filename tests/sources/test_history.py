from __future__ import annotations

from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline.core.errors import ConfigurationError, DataError, ProviderError, TemporaryError
from tapeline.core.schemas import OHLCV
from tapeline.core.timeframe import Timeframe
from tapeline.sources.base import Data, Empty, Failed
from tapeline.sources.frame import make_bars, make_rejected
from tapeline.sources.history import (
    Ledger,
    Loaded,
    Span,
    chunks,
    follow,
    missing_ranges,
    stored_spans,
    wanted_span,
)
from tests.sources.support import at, request_for

H1 = Timeframe.parse("H1")
SPANS = st.builds(lambda a, b: Span(min(a, b), max(a, b) + 1), st.integers(0, 60), st.integers(0, 60))


@given(SPANS, st.lists(SPANS, max_size=8))
def test_what_is_missing_is_exactly_what_nothing_covers(wanted, covered):
    left = missing_ranges(wanted, covered)
    points = {x for span in left for x in range(span.start, span.end)}
    held = {x for span in covered for x in range(span.start, span.end)}
    assert points == set(range(wanted.start, wanted.end)) - held
    assert all(a.end < b.start for a, b in pairwise(left))


@given(st.integers(0, 500), st.integers(1, 300), st.integers(1, 50))
def test_pieces_tile_their_span_on_one_grid(start, length, rows):
    hour = H1.nanoseconds
    span = Span(start * hour, (start + length) * hour)
    pieces = chunks([span], H1, rows)
    assert pieces[0].start == span.start
    assert pieces[-1].end == span.end
    assert all(a.end == b.start and a.end % (rows * hour) == 0 for a, b in pairwise(pieces))
    assert all(piece.end - piece.start <= rows * hour for piece in pieces)


def test_the_forming_bar_is_left_out_by_the_clock():
    start = at("2024-01-01")
    for now, last in [("2024-01-01 03:00", "2024-01-01 02:00:01"), ("2024-01-01 03:59:59", "2024-01-01 03:00")]:
        assert wanted_span(H1, start, None, at(now)).bounds[1] == at(last)
        assert wanted_span(H1, start, at("2025-01-01"), at(now)).bounds[1] == at(last)
    assert wanted_span(H1, start, at("2024-01-01 02:00"), at("2024-02-01")).bounds == (start, at("2024-01-01 02:00"))
    nothing = wanted_span(H1, start, None, at("2024-01-01 00:30"))
    assert missing_ranges(nothing, []) == []
    with pytest.raises(ConfigurationError):
        wanted_span(H1, start, start, at("2024-02-01"))
    assert stored_spans(pd.DatetimeIndex([], tz="UTC"), H1) == []


def test_the_ledger_is_believed_only_as_far_as_the_lake_agrees(tmp_path):
    ledger = Ledger(tmp_path / "deep/ledger.json")
    opens = pd.date_range("2024-01-01", periods=5, freq="h", tz="UTC")
    start = opens[0].value
    hour = H1.nanoseconds
    ledger.add(Loaded(start, start + 5 * hour, 5))
    ledger.add(Loaded(start + 5 * hour, start + 50 * hour, 0))
    assert ledger.spans(opens) == [Span(start, start + 5 * hour), Span(start + 5 * hour, start + 50 * hour)]
    assert ledger.spans(opens[:4]) == [Span(start + 5 * hour, start + 50 * hour)], "a row was lost: ask again"
    (tmp_path / "deep/ledger.json").write_text("[[1, 2]]")
    with pytest.raises(DataError, match="ledger"):
        ledger.read()


class Paged:
    """A source that stops after so many bars and says where to go on."""

    name = "paged"

    def __init__(self, limit: int, *, stuck: bool = False) -> None:
        self.limit, self.stuck = limit, stuck
        self.asked: list = []

    def symbols(self):
        return []

    def fetch(self, request):
        self.asked.append((request.start, request.end))
        opens = pd.date_range(request.start, request.end, freq="h", inclusive="left")
        if not len(opens):
            return Empty("nothing")
        page = opens[: self.limit]
        bars = make_bars(page.as_unit("ns").asi8, dict.fromkeys(OHLCV, page.hour + 1.0))
        resume = request.start if self.stuck else opens[self.limit] if len(opens) > self.limit else None
        return Data(bars, make_rejected(), source_id=self.name, provenance="test", resume_at=resume)


def test_pages_are_followed_to_the_end_and_no_further():
    source = Paged(7)
    answers = list(follow(source, request_for("EURUSD", "H1", "2024-01-01", "2024-01-02")))
    joined = pd.concat([answer.bars for answer in answers])
    assert joined.index.tolist() == list(pd.date_range("2024-01-01", periods=24, freq="h", tz="UTC"))
    assert len(source.asked) == 4
    with pytest.raises(ProviderError, match="go on"):
        list(follow(Paged(7, stuck=True), request_for("EURUSD", "H1", "2024-01-01", "2024-01-02")))
    failing = Paged(7)
    failing.fetch = lambda request: Failed(TemporaryError("down"))
    with pytest.raises(TemporaryError):
        list(follow(failing, request_for("EURUSD", "H1", "2024-01-01", "2024-01-02")))
