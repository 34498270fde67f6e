"""Recordings are read as they were written, replayed at their pace, and damage is named."""

from __future__ import annotations

import gzip
import itertools
from collections import deque
from pathlib import Path

import pytest

from tapeline.core.errors import ConfigurationError, DataError
from tapeline.streams.dialects.binance import Binance
from tapeline.streams.messages import BookSnapshot, Quarantined, Quote
from tapeline.streams.recording import Recorded, merge, read_recording, replay

QUOTE = b'{"u":%d,"s":"BTCUSDT","b":"10.5","B":"2","a":"10.6","A":"1"}'


def test_both_formats_and_all_directions(tmp_path: Path) -> None:
    path = tmp_path / "session"
    path.write_bytes(
        b'configuration: {"ticker":[]}\n'
        b"wss://x/stream <-> 1633998511.159679\n"
        b'wss://x/stream <- 1633998511.2: {"op":"subscribe"}\n'
        b"https://x/depth?symbol=BTCUSDT&limit=5 -> 1633998512.3: {}\n"
        b"1633998512.0633569: one: two\n"
        b"1723161253937085768 three four\n"
        b"\n"
    )
    read = list(read_recording(path))
    assert [(item.direction, item.received, item.payload) for item in read] == [
        ("connected", 1_633_998_511_159_679_000, b""),
        ("sent", 1_633_998_511_200_000_000, b'{"op":"subscribe"}'),
        ("answered", 1_633_998_512_300_000_000, b"{}"),
        ("received", 1_633_998_512_063_356_900, b"one: two"),
        ("received", 1_723_161_253_937_085_768, b"three four"),
    ]
    assert read[2].url == "https://x/depth?symbol=BTCUSDT&limit=5"


def test_a_compressed_recording_reads_the_same(tmp_path: Path) -> None:
    lines = b"".join(b"%d %s\n" % (1_723_161_253_937_085_768 + i, QUOTE % i) for i in range(5_000))
    (tmp_path / "plain").write_bytes(lines)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(lines))
    assert list(read_recording(tmp_path / "plain")) == list(read_recording(tmp_path / "packed.gz"))


def test_damage_is_named_after_what_could_be_read(tmp_path: Path) -> None:
    lines = b"".join(b"%d %s\n" % (1_723_161_253_937_085_768 + i * 7919, QUOTE % (i * 104_729)) for i in range(9_000))
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(lines)[:-2_000])
    read: deque[Recorded] = deque()
    with pytest.raises(DataError, match=r"cut\.gz is damaged after line \d+"):
        read.extend(read_recording(path))
    assert len(read) > 1_000
    long = tmp_path / "long"
    long.write_bytes(b"1723161253937085768 " + b"x" * 1_000)
    with pytest.raises(DataError, match="line 1 is longer than 500 bytes"):
        list(read_recording(long, maximum_bytes=500))
    with pytest.raises(ConfigurationError, match="no recording"):
        list(read_recording(tmp_path / "absent"))


def test_a_bad_message_does_not_end_the_replay() -> None:
    recording = [Recorded(i, "received", "", raw) for i, raw in enumerate([QUOTE % 1, b"\xff{", QUOTE % 2])]
    kinds = [type(received.record) for received in replay(recording, Binance())]
    assert kinds == [Quote, Quarantined, Quote]


def test_what_was_sent_is_not_parsed_and_answers_name_their_symbol() -> None:
    body = b'{"lastUpdateId":5,"bids":[["1","2"]],"asks":[]}'
    recording = [
        Recorded(1, "connected", "wss://x", b""),
        Recorded(2, "sent", "wss://x", b"{"),
        Recorded(3, "answered", "https://x/depth?limit=5&symbol=BTCUSDT", body),
        Recorded(4, "answered", "https://x/depth", body),
    ]
    (received,) = replay(recording, Binance(), symbol_in_url="symbol")
    assert isinstance(received.record, BookSnapshot)
    assert (received.received, received.record.symbol) == (3, "BTCUSDT")
    assert list(replay(recording, Binance())) == []


@pytest.mark.parametrize("speed", [1.0, 10.0, 0.5])
def test_the_pace_is_the_recorded_one_and_delays_do_not_add_up(speed: float) -> None:
    starts = [0, 1_000_000_000, 1_500_000_000, 9_000_000_000]
    recording = [Recorded(10**18 + start, "received", "", QUOTE % i) for i, start in enumerate(starts)]
    now, shown = [100.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds

    for received in replay(recording, Binance(), speed=speed, sleep=sleep, monotonic=lambda: now[0]):
        shown.append((now[0] - 100.0) * speed * 1e9)
        now[0] += 0.01  # the consumer takes time
        assert received.received in {10**18 + start for start in starts}
    assert shown == pytest.approx(starts, abs=1e3)


def test_as_fast_as_possible_never_sleeps() -> None:
    def sleep(_seconds: float) -> None:
        raise AssertionError

    recording = [Recorded(10**18 * i, "received", "", QUOTE % i) for i in range(3)]
    assert len(list(replay(recording, Binance(), sleep=sleep))) == 3


@pytest.mark.parametrize("speed", [0.0, -1.0, float("inf"), float("nan")])
def test_an_impossible_speed_is_refused(speed: float) -> None:
    with pytest.raises(ConfigurationError, match="speed"):
        list(replay([], Binance(), speed=speed))


def test_recordings_are_merged_lazily_by_time() -> None:
    endless = (Recorded(i, "received", "", b"") for i in itertools.count(0, 2))
    other = (Recorded(i, "answered", "", b"") for i in itertools.count(1, 2))
    assert [item.received for item in itertools.islice(merge(endless, other), 6)] == [0, 1, 2, 3, 4, 5]
