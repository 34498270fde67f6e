"""Packed batches in Redis: one stream a shard, its entries numbered by the publisher, read by the shard's owner.

An entry's id is the publisher's term and the entry's number in it. So Redis itself refuses what a publisher whose term
is over still sends, and an entry that is sent twice is there once; and an owner knows what it misses. The consumer
group says who has what and how much is not covered by a snapshot yet; where an owner goes on is decided by its
snapshot, never by the group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tapeline.alerts.scale.packed_batch import entry_id, position_of_id, term_and_number
from tapeline.alerts.scale.redis_connection import own_redis_errors

if TYPE_CHECKING:
    import redis

PREFIX: Final = "tapeline"
GROUP: Final = "engines"
PAGE: Final = 256
"""Entries read at a time."""
_ACKNOWLEDGED: Final = 1_000
_FIELD: Final = b"b"


class Entry(NamedTuple):
    """One entry: its shard, its position (:func:`~tapeline.alerts.scale.packed_batch.position_of`) and its bytes."""

    shard: int
    position: int
    body: bytes


class Sent(NamedTuple):
    """How sending went: shards whose stream was not there, and shards that refused an entry's id."""

    missing: frozenset[int]
    refused: frozenset[int]


def stream_key(shard: int, prefix: str = PREFIX) -> str:
    """The name of a shard's stream."""
    return f"{prefix}:ticks:{shard}"


class StreamWriter:
    """What a publisher does with the streams.

    Parameters
    ----------
    client:
        One that does not try again by itself: the publisher looks first how far it came.
    """

    def __init__(self, client: redis.Redis, prefix: str = PREFIX) -> None:
        self._client, self._prefix = client, prefix

    def send(self, entries: Iterable[Entry], *, create: bool = False) -> Sent:
        """Add entries in one round trip.

        Parameters
        ----------
        create:
            Whether a stream that is not there is made: else its absence tells that Redis has lost it.

        Raises
        ------
        TemporaryError
            Redis does not answer; how much of it was added is not known.
        """
        from redis.exceptions import ResponseError

        some = list(entries)
        with own_redis_errors():
            line = self._client.pipeline(transaction=False)
            for one in some:
                line.xadd(
                    stream_key(one.shard, self._prefix),
                    {_FIELD: one.body},
                    entry_id(one.position),
                    nomkstream=not create,
                )
            answers = line.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, Exception) and not isinstance(answer, ResponseError):
                    raise answer
                if isinstance(answer, ResponseError) and "equal or smaller" not in str(answer):
                    raise answer
        missing = frozenset(one.shard for one, answer in zip(some, answers, strict=True) if answer is None)
        refused = frozenset(
            one.shard for one, answer in zip(some, answers, strict=True) if isinstance(answer, Exception)
        )
        return Sent(missing, refused)

    def top(self, shard: int) -> int | None:
        """The position of the newest entry there ever was; None where there is no stream."""
        from redis.exceptions import ResponseError

        with own_redis_errors():
            try:
                found: Any = self._client.xinfo_stream(stream_key(shard, self._prefix))
            except ResponseError as error:
                if "no such key" in str(error):
                    return None
                raise
        id = found["last-generated-id"]
        return 0 if id in (b"0-0", "0-0") else position_of_id(id)

    def lengths(self, shards: Iterable[int]) -> list[int]:
        """How many entries wait in each stream."""
        with own_redis_errors():
            line = self._client.pipeline(transaction=False)
            for shard in shards:
                line.xlen(stream_key(shard, self._prefix))
            return [int(one) for one in line.execute()]

    def complaints(self) -> dict[int, int]:
        """By shard, behind which position its owner misses entries; read once."""
        with own_redis_errors():
            line = self._client.pipeline(transaction=True)
            line.hgetall(_complaints(self._prefix))
            line.delete(_complaints(self._prefix))
            found, _ = line.execute()
        return {int(shard): int(position) for shard, position in found.items()}


class StreamReader:
    """What an engine does with the streams of the shards that it owns; one thread reads.

    Parameters
    ----------
    client:
        For reading alone: a read blocks.
    consumer:
        The instance's name.
    """

    def __init__(self, client: redis.Redis, consumer: str, prefix: str = PREFIX) -> None:
        self._client, self._consumer, self._prefix = client, consumer, prefix
        self._shards: dict[str, int] = {}
        self._waiting: dict[int, int] = {}
        self._unacknowledged: dict[int, list[int]] = {}

    def follow(self, shard: int, position: int) -> None:
        """Read a shard behind a position from the next read on; what other consumers held of it is theirs no more."""
        self._waiting[shard] = position
        self._unacknowledged.setdefault(shard, [])

    def leave(self, shard: int) -> None:
        """Read a shard no more."""
        self._waiting.pop(shard, None)
        self._unacknowledged.pop(shard, None)
        self._shards.pop(stream_key(shard, self._prefix), None)

    def read(self, block: float, *, positions: Mapping[int, int]) -> dict[int, list[Entry]]:
        """What came, by shard; waits for so many seconds where nothing is there.

        Parameters
        ----------
        positions:
            How far each shard is taken: where to go on in a stream that Redis had lost and has again.

        Raises
        ------
        TemporaryError
            Redis does not answer.
        """
        from redis.exceptions import ResponseError

        with own_redis_errors():
            for shard, position in list(self._waiting.items()):
                if self._place(shard, position):
                    del self._waiting[shard]
                    self._shards[stream_key(shard, self._prefix)] = shard
            if not self._shards:
                return {}
            try:
                found: Any = self._client.xreadgroup(
                    GROUP, self._consumer, dict.fromkeys(self._shards, ">"), count=PAGE, block=max(int(block * 1e3), 1)
                )
            except ResponseError as error:
                if "NOGROUP" not in str(error) and "unblocked" not in str(error).lower():
                    raise
                # Redis lost one of them: each finds its place again, once it is there.
                for shard in self._shards.values():
                    self._waiting[shard] = positions[shard]
                self._shards = {}
                return {}
        pairs = found.items() if isinstance(found, dict) else found or ()
        answer: dict[int, list[Entry]] = {}
        for key, entries in pairs:
            shard = self._shards[key.decode() if isinstance(key, bytes) else key]
            # In RESP3 a stream's entries come in a list of their own.
            plain = entries[0] if entries and entries[0] and isinstance(entries[0][0], (list, tuple)) else entries
            answer[shard] = list(_entries(shard, plain))
            self._unacknowledged[shard].extend(one.position for one in answer[shard])
        return answer

    def behind(self, shard: int, position: int, *, most: int = PAGE) -> list[Entry]:
        """Entries behind a position, whoever has read them."""
        with own_redis_errors():
            found: Any = self._client.xrange(stream_key(shard, self._prefix), f"({entry_id(position)}", "+", most)
        return list(_entries(shard, found))

    def covered(self, shard: int, snapshot: int, before: int) -> None:
        """A durable snapshot holds all up to ``snapshot``; what is not behind ``before`` nobody needs any more.

        Raises
        ------
        TemporaryError
            Redis does not answer: the next snapshot makes up for it.
        """
        key = stream_key(shard, self._prefix)
        held = self._unacknowledged.get(shard, [])
        done = [one for one in held if one <= snapshot]
        with own_redis_errors():
            line = self._client.pipeline(transaction=False)
            for begin in range(0, len(done), _ACKNOWLEDGED):
                line.xack(key, GROUP, *map(entry_id, done[begin : begin + _ACKNOWLEDGED]))
            if before:
                line.xtrim(key, minid=entry_id(before + 1), approximate=False)
            line.execute(raise_on_error=False)
        self._unacknowledged[shard] = [one for one in held if one > snapshot]

    def complain(self, shard: int, position: int) -> None:
        """Tell the publisher that entries behind a position are missing."""
        with own_redis_errors():
            self._client.hset(_complaints(self._prefix), str(shard), str(position))

    def _place(self, shard: int, position: int) -> bool:
        """Put the group to a position; False where there is no stream yet."""
        from redis.exceptions import ResponseError

        key, id = stream_key(shard, self._prefix), entry_id(position) if position else "0"
        try:
            try:
                self._client.xgroup_create(key, GROUP, id)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
                self._client.xgroup_setid(key, GROUP, id)
            for one in self._client.xinfo_consumers(key, GROUP):
                name = one["name"].decode() if isinstance(one["name"], bytes) else one["name"]
                if name != self._consumer:
                    self._client.xgroup_delconsumer(key, GROUP, name)
        except ResponseError as error:
            # The publisher makes streams, nobody else: so it sees where one is gone.
            if "requires the key to exist" in str(error) or "no such key" in str(error) or "NOGROUP" in str(error):
                return False
            raise
        return True


class Following(NamedTuple):
    """Entries that follow a position, and whether some are missing before the next."""

    entries: list[Entry]
    gap: bool


def following(position: int, entries: Iterable[Entry]) -> Following:
    """Of entries in their order, those that continue from a position; copies are passed over.

    A new term may begin anywhere: its publisher began again from what snapshots hold.

    Examples
    --------
    >>> from tapeline.alerts.scale.packed_batch import position_of
    >>> entries = [Entry(0, position_of(*place), b"") for place in ((1, 4), (1, 5), (2, 0), (2, 1), (2, 3))]
    >>> found = following(position_of(1, 4), entries)
    >>> [entry_id(one.position) for one in found.entries], found.gap
    (['1-5', '2-0', '2-1'], True)
    """
    accepted: list[Entry] = []
    for one in entries:
        if one.position <= position:
            continue
        term, number = term_and_number(one.position)
        if one.position != position + 1 and not (number == 0 and term > term_and_number(position)[0]):
            return Following(accepted, True)
        accepted.append(one)
        position = one.position
    return Following(accepted, False)


def _entries(shard: int, found: Iterable[Any]) -> Iterator[Entry]:
    for id, fields in found or ():
        # An entry that was trimmed while it was pending comes without its fields.
        if fields:
            yield Entry(shard, position_of_id(id), fields[_FIELD])


def _complaints(prefix: str) -> str:
    return f"{prefix}:missing"
