"""One client of the stream: frames go to its socket at once while it keeps up, and into a bounded queue while not."""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tapeline.alerts.delivery.messages import event
from tapeline.alerts.store.store import StoredFiring

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

    from tapeline.alerts.websocket_access import Access
    from tapeline.alerts.websocket_filters import Filters

BUFFER: Final = 32 * 1024
"""Bytes that may wait in a socket's own buffer before a client counts as busy."""
LARGEST_WRITE: Final = 64 * 1024
_TEXT: Final = 0x81  # RFC 6455, 5.2: the last fragment of a text message


class Frame(NamedTuple):
    """A message, once for all clients: its text, and the bytes that go over the wire."""

    number: int
    payload: bytes
    wire: bytes


def text_frame(number: int, fields: dict[str, Any]) -> Frame:
    r"""A message as a WebSocket frame of a server, which is not masked and so is the same for every client.

    Examples
    --------
    >>> text_frame(1, {"a": 1}).wire
    b'\x81\x07{"a":1}'
    """
    payload = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", _TEXT, length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", _TEXT, 126, length)
    else:
        head = struct.pack("!BBQ", _TEXT, 127, length)
    return Frame(number, payload, head + payload)


def firing_frame(stored: StoredFiring) -> Frame:
    """The message of a firing."""
    fields = {"type": "firing", "cursor": str(stored.number), "event": event(stored.firing)}
    return text_frame(stored.number, fields)


class StreamClient:
    """A connection, its filters, how far it was given firings, and what waits to be sent to it.

    Parameters
    ----------
    position:
        The number of the last firing that it was given or that its filters kept from it, while it catches up.
    size:
        Firings that may wait.

    Attributes
    ----------
    told:
        The newest cursor that went out to it.
    sent, most:
        Messages that went out, and how many waited at the worst.
    """

    __slots__ = (
        *("access", "connection", "filters", "position", "told", "sent", "most"),
        *("_open", "_pouring", "_protocol", "_size", "_transport", "_waiting"),
    )

    def __init__(
        self, connection: ServerConnection, access: Access, filters: Filters, position: int, size: int
    ) -> None:
        from websockets.protocol import State

        self.connection, self.access, self.filters = connection, access, filters
        # Looked up once: each is asked for every firing.
        self._protocol, self._transport = connection.protocol, connection.transport
        self.position = self.told = position
        self.sent = self.most = 0
        self._open, self._size = State.OPEN, size
        self._waiting: deque[Frame] = deque()
        self._pouring: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Firings that wait for it."""
        return len(self._waiting)

    def offer(self, frames: Sequence[Frame], wire: bytes) -> bool:
        """Give it messages, ``wire`` being those of ``frames`` in one; False where too many wait already.

        The bytes go to the transport as they are: asking the library for a frame each would make the same bytes again
        for every client, and cost a write to the socket each. A client whose socket takes no more is sent to through
        the library, which waits for it.
        """
        if self._protocol.state is not self._open:
            return True
        transport = self._transport
        self.told = frames[-1].number
        if self._pouring is None and len(wire) <= LARGEST_WRITE and transport.get_write_buffer_size() <= BUFFER:
            transport.write(wire)
            self.sent += len(frames)
            return True
        if len(self._waiting) + len(frames) > self._size:
            return False
        self._waiting.extend(frames)
        self.most = max(self.most, len(self._waiting))
        if self._pouring is None:
            self._pouring = asyncio.create_task(self._pour())
        return True

    async def send(self, frame: Frame) -> None:
        """Send one message and wait until the client's socket has room."""
        await self.connection.send(frame.payload, text=True)
        self.sent += 1
        self.told = max(self.told, frame.number)

    def forsake(self) -> int:
        """Let what waits be; how much that was."""
        left = len(self._waiting)
        self._waiting.clear()
        if self._pouring is not None:
            self._pouring.cancel()
        return left

    async def _pour(self) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            while self._waiting:
                await self.connection.send(self._waiting.popleft().payload, text=True)
                self.sent += 1
        except ConnectionClosed:
            self._waiting.clear()
        finally:
            self._pouring = None
