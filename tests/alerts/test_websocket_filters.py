"""Filters of the stream: the index finds who wants a firing, and frames are those of the protocol."""

from __future__ import annotations

import random

import pytest
from websockets.frames import Frame as LibraryFrame
from websockets.frames import Opcode

from tapeline.alerts.websocket_client import text_frame
from tapeline.alerts.websocket_filters import FilterIndex, Filters, read_change, read_hello
from tapeline.core.errors import ConfigurationError
from tests.alerts.delivery.support import firing

OWNERS, SYMBOLS, RULES = ("me", "you", "ann"), ("A", "B", "C", "D"), ("r1", "r2", "r3")


def some_filters(random_: random.Random) -> Filters:
    def some(names: tuple[str, ...]) -> frozenset[str] | None:
        return None if random_.random() < 0.4 else frozenset(random_.sample(names, random_.randrange(len(names))))

    return Filters(
        owner=random_.choice([None, *OWNERS]),
        symbols=some(SYMBOLS),
        rules=some(RULES),
        kinds=random_.choice([None, frozenset({"firing"}), frozenset({"resolved", "no_data"})]),
        priority=random_.choice(["low", "normal", "critical"]),
    )


def some_firing(random_: random.Random):
    return firing(
        owner=random_.choice(OWNERS),
        symbol=random_.choice(SYMBOLS),
        rule=random_.choice(RULES),
        kind=random_.choice(["firing", "resolved"]),
        priority=random_.choice(["low", "normal", "critical"]),
    )


def test_the_index_finds_exactly_those_who_want_a_firing_while_they_come_and_go() -> None:
    random_ = random.Random(7)
    index: FilterIndex[int] = FilterIndex()
    held: dict[int, Filters] = {}
    for client in range(400):
        if held and random_.random() < 0.4:
            gone = random_.choice(list(held))
            index.remove(gone, held.pop(gone))
        held[client] = some_filters(random_)
        index.add(client, held[client])
        one = some_firing(random_)
        found = [each for filters in index.matching(one) for each in index.waiting(filters)]
        assert len(found) == len(set(found))
        assert set(found) == {each for each, filters in held.items() if filters.want(one)}
    for client, filters in held.items():
        index.remove(client, filters)
        index.remove(client, filters)
    assert (len(index), index._places) == (0, {})


def test_clients_of_other_symbols_are_not_looked_at(monkeypatch) -> None:
    index: FilterIndex[int] = FilterIndex()
    for client in range(3_000):
        index.add(client, Filters("me", symbols=frozenset({f"S{client}"})))
    asked = []
    want = Filters.want
    monkeypatch.setattr(Filters, "want", lambda filters, one: asked.append(1) or want(filters, one))
    assert [index.waiting(filters) for filters in index.matching(firing(symbol="S77"))] == [(77,)]
    assert len(asked) == 1


@pytest.mark.parametrize("length", [0, 1, 116, 117, 200, 65_526, 65_527, 70_000])
def test_a_frame_is_the_library_s_own(length: int) -> None:
    frame = text_frame(1, {"a": "x" * length})
    assert frame.wire == LibraryFrame(Opcode.TEXT, frame.payload).serialize(mask=False)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"type": "subscribe", "evil": 1}', '{"symbols": ["A"]}', '{"type": "subscribe", "symbols": "A"}'),
        *('{"type": "unsubscribe", "rules": ["r"]}', '{"type": "subscribe", "priority": "loud"}', "[" * 10_000),
        *('{"type": "unsubscribe", "priority": "high"}', '{"type": "subscribe", "kinds": ["evil"]}'),
        '{"type": "subscribe", "symbols": [' + ",".join(f'"{n}"' for n in range(1_001)) + "]}",
        '{"type": "subscribe", "symbols": ["' + "x" * 257 + '"]}',
        '{"type": "subscribe", "owner": "you"}',
    ],
)
def test_a_change_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        read_change(text, Filters("me", symbols=frozenset({"A"})))


def test_a_filter_does_not_grow_without_end() -> None:
    standing = Filters(symbols=frozenset(map(str, range(999))))
    assert len(read_change('{"type": "subscribe", "symbols": ["a"]}', standing).symbols) == 1_000
    with pytest.raises(ConfigurationError, match="more than 1000 names"):
        read_change('{"type": "subscribe", "symbols": ["a", "b"]}', standing)


def test_a_first_message_opens_what_it_leaves_out() -> None:
    assert read_hello('{"symbols": [], "rules": ["*"], "kinds": ["firing"]}').filters == Filters(
        kinds=frozenset({"firing"})
    )
    assert read_hello("{}", "me").filters.owner == "me"
    with pytest.raises(ConfigurationError, match="owner"):
        read_hello('{"owner": "you"}', "me")
