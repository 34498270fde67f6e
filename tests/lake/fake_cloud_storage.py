"""A Google Cloud Storage server on the loopback interface: as much of the JSON API (v1) as gcsfs speaks.

Objects appear whole or not at all, as they do there: an upload that breaks off leaves what was there before. Faults are
scripted: ``fail`` gives statuses for the next requests that match.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

_OBJECT = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o/([^/]+)")
_LIST = re.compile(r"/storage/v1/b/([^/]+)/o")
_BUCKET = re.compile(r"/storage/v1/b/([^/]+)")
_LAYOUT = re.compile(r"/storage/v1/b/([^/]+)/storageLayout")
_UPLOAD = re.compile(r"/upload/storage/v1/b/([^/]+)/o")


@dataclass
class Stored:
    """One object: its bytes and its generation, which grows with every write."""

    data: bytes
    generation: int


@dataclass
class CloudStorage:
    """The buckets of a server, what was asked of it, and the faults to come.

    ``fail`` holds (method, part of the path, status) for the next matching requests, each used once; the status 0
    breaks the connection after the request was read. ``page`` limits a listing's page.
    """

    url: str = ""
    buckets: dict[str, dict[str, Stored]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    fail: list[tuple[str, str, int]] = field(default_factory=list)
    page: int = 1000
    sessions: dict[str, tuple[str, str, bytearray]] = field(default_factory=dict)
    generation: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def store(self, bucket: str, name: str, data: bytes) -> dict[str, Any]:
        """Put a whole object into a bucket and describe it."""
        with self.lock:
            self.generation += 1
            self.buckets[bucket][name] = Stored(data, self.generation)
        return self.describe(bucket, name)

    def describe(self, bucket: str, name: str) -> dict[str, Any]:
        """The resource of an object, with the MD5 and CRC32C that clients compare."""
        held = self.buckets[bucket][name]
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{held.generation}",
            "name": name,
            "bucket": bucket,
            "generation": str(held.generation),
            "metageneration": "1",
            "size": str(len(held.data)),
            "contentType": "application/octet-stream",
            "storageClass": "STANDARD",
            "timeCreated": "2025-01-01T00:00:00.000Z",
            "updated": "2025-01-01T00:00:00.000Z",
            "md5Hash": base64.b64encode(hashlib.md5(held.data).digest()).decode(),
            "crc32c": base64.b64encode(crc32c(held.data).to_bytes(4, "big")).decode(),
        }

    def listing(self, bucket: str, query: dict[str, str]) -> dict[str, Any]:
        """One page of a listing by prefix, delimiter and page token."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        names, prefixes = [], set()
        for name in sorted(self.buckets[bucket]):
            if name.startswith(prefix):
                head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
                if found:
                    prefixes.add(prefix + head + delimiter)
                else:
                    names.append(name)
        start = int(query.get("pageToken", 0))
        stop = start + min(self.page, int(query.get("maxResults", self.page)))
        answer: dict[str, Any] = {
            "kind": "storage#objects", "items": [self.describe(bucket, name) for name in names[start:stop]],
            "prefixes": sorted(prefixes) if not start else [],
        }  # fmt: skip
        return answer | ({"nextPageToken": str(stop)} if stop < len(names) else {})


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), bit by bit over a table of 256.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _table() -> list[int]:
    found = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return found


_TABLE = _table()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    storage: CloudStorage

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, *_: Any) -> None:
        return

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.storage.requests.append((self.command, self.path))
        with self.storage.lock:
            fault = next((f for f in self.storage.fail if f[0] == self.command and f[1] in unquote(self.path)), None)
            if fault is not None:
                self.storage.fail.remove(fault)
        if fault is not None and fault[2] == 0:
            self.close_connection = True
            self.connection.close()
            return
        if fault is not None:
            self._error(fault[2], "scripted")
            return
        upload, listed = _UPLOAD.fullmatch(parts.path), _LIST.fullmatch(parts.path)
        named, layout, bucket = (kind.fullmatch(parts.path) for kind in (_OBJECT, _LAYOUT, _BUCKET))
        found = upload or listed or named or layout or bucket
        if found is None:
            self._error(404, "Not Found")
        elif unquote(found[1]) not in self.storage.buckets:
            self._error(404, "The specified bucket does not exist.")
        elif upload:
            self._upload(unquote(upload[1]), query, body)
        elif layout:
            self._json({"kind": "storage#storageLayout", "bucket": layout[1], "locationType": "region"})
        elif named:
            self._object(unquote(named[1]), unquote(named[2]), query)
        elif listed:
            self._json(self.storage.listing(unquote(listed[1]), query))
        else:
            self._json({"kind": "storage#bucket", "name": unquote(found[1])})

    def _object(self, bucket: str, name: str, query: dict[str, str]) -> None:
        held = self.storage.buckets[bucket].get(name)
        if held is None:
            self._error(404, f"No such object: {bucket}/{name}")
        elif self.command == "DELETE":
            del self.storage.buckets[bucket][name]
            self._send(204, b"")
        elif query.get("alt") == "media":
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked is None:
                self._send(200, held.data)
                return
            first, last = int(asked[1]), min(int(asked[2] or len(held.data)), len(held.data) - 1)
            if first > last:
                self._error(416, "Requested range not satisfiable")
                return
            span = f"bytes {first}-{last}/{len(held.data)}"
            self._send(206, held.data[first : last + 1], {"Content-Range": span})
        else:
            self._json(self.storage.describe(bucket, name))

    def _upload(self, bucket: str, query: dict[str, str], body: bytes) -> None:
        if query.get("uploadType") == "multipart":
            head = f"Content-Type: {self.headers['Content-Type']}\n\n".encode()
            described, _ = message_from_bytes(head + body).get_payload()
            name = json.loads(described.get_payload(decode=True))["name"]
            # A parser of mail would change line ends: the content is cut out of the body, between its head and the end.
            boundary = re.search(r'boundary="?([^";]+)"?', self.headers["Content-Type"])
            assert boundary is not None
            mark = b"--" + boundary[1].encode()
            content = body[body.index(mark, body.index(mark) + 1) : body.rindex(b"\n" + mark + b"--")]
            self._json(self.storage.store(bucket, name, content[content.index(b"\n\n") + 2 :]))
        elif "upload_id" not in query:
            session = uuid.uuid4().hex
            self.storage.sessions[session] = (bucket, json.loads(body)["name"], bytearray())
            place = f"{self.storage.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={session}"
            self._send(200, b"", {"Location": place})
        elif self.command == "DELETE":
            self.storage.sessions.pop(query["upload_id"], None)
            self._send(204, b"")
        else:
            bucket, name, held = self.storage.sessions[query["upload_id"]]
            span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", self.headers["Content-Range"])
            assert span is not None
            assert int(span[1]) == len(held), "a piece that does not go on where the last one ended"
            held += body
            if len(held) < int(span[3]):
                self._send(308, b"", {"Range": f"bytes=0-{len(held) - 1}"})
                return
            self._json(self.storage.store(bucket, name, bytes(held)))

    def _json(self, answer: dict[str, Any], status: int = 200) -> None:
        self._send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, text: str) -> None:
        self._json({"error": {"code": status, "message": text, "errors": [{"message": text}]}}, status)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def cloud_storage(*buckets: str) -> Iterator[CloudStorage]:
    """Serve empty buckets on 127.0.0.1."""
    storage = CloudStorage(buckets={name: {} for name in buckets})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"storage": storage}))
    server.daemon_threads = True
    storage.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield storage
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
