"""Archive stores: a folder, S3, Google Cloud Storage or memory, with whole-file writes that are never half there."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Any, Final

from tapeline.core.errors import ConfigurationError, DataError, MissingExtraError, TemporaryError
from tapeline.lake.partition import TEMPORARY_SUFFIX, make_folder, refuse_link, sync_folder

_REMOTE: Final = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs"), "gcs": ("gcsfs", "gcs"), "memory": ("fsspec", "s3")}
_SCHEME: Final = re.compile(r"([a-z0-9]+)://(.*)", re.DOTALL)


class ArchiveStore:
    """Named byte strings below one address.

    Parameters
    ----------
    address:
        A local folder, or ``s3://bucket/path``, ``gs://bucket/path``, ``memory://path``. Other protocols, and fsspec's
        chained addresses, are refused: an address may come from a setting.
    options:
        Passed to the file system (``key``, ``secret``, ``endpoint_url`` of s3fs; ``token``, ``endpoint_url`` of gcsfs).

    Raises
    ------
    ConfigurationError
        The address is not one of these; MissingExtraError where its package is not installed.
    """

    def __init__(self, address: str | Path, **options: Any) -> None:
        self.address = str(address)
        self._remote: Any = None
        found = _SCHEME.fullmatch(self.address) if isinstance(address, str) else None
        if "::" in self.address or (found and found[1] not in _REMOTE) or (found and ".." in found[2].split("/")):
            raise ConfigurationError(
                f"archive address {self.address!r} is not supported",
                hint="a local folder, s3://bucket/path, gs://bucket/path or memory://path",
            )
        if found is None:
            self._root: Any = Path(address).expanduser().resolve()
            return
        try:
            self._remote = _file_system(found[1], options)
        except ImportError as error:
            raise MissingExtraError(*_REMOTE[found[1]]) from error
        self._root = found[2].strip("/")

    def __repr__(self) -> str:
        return f"ArchiveStore({self.address!r})"

    def put(self, parts: tuple[str, ...], data: bytes) -> None:
        """Store a whole file under a name, replacing one that is there; durable, or visible to all, on return."""
        if self._remote is not None:
            self._report(lambda: self._remote.pipe_file(self._key(parts), data), parts)
            return
        self._report(lambda: self._put_locally(parts, data), parts)

    def get(self, parts: tuple[str, ...]) -> bytes | None:
        """The bytes stored under a name, None where there are none."""
        try:
            if self._remote is None:
                path = self._root.joinpath(*parts)
                refuse_link(path)
                raw: bytes = path.read_bytes()
                return raw
            self._remote.invalidate_cache()
            found: bytes = self._remote.cat_file(self._key(parts))
        except FileNotFoundError:
            return None
        except DataError:
            raise
        except Exception as error:
            raise self._error(error, parts) from error
        return found

    def delete(self, parts: tuple[str, ...]) -> None:
        """Remove a file; nothing happens where there is none."""
        if self._remote is None:
            self._root.joinpath(*parts).unlink(missing_ok=True)
            return
        try:
            self._remote.rm_file(self._key(parts))
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._error(error, parts) from error

    def _key(self, parts: tuple[str, ...]) -> str:
        return "/".join((self._root, *parts)) if self._root else "/".join(parts)

    def _put_locally(self, parts: tuple[str, ...], data: bytes) -> None:
        folder = make_folder(self._root, parts[:-1])
        refuse_link(folder / parts[-1])
        temporary = folder / f".{os.getpid()}-{secrets.token_hex(6)}{TEMPORARY_SUFFIX}"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / parts[-1])
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(folder)

    def _report(self, work: Any, parts: tuple[str, ...]) -> None:
        try:
            work()
        except DataError:
            raise
        except Exception as error:
            raise self._error(error, parts) from error

    def _error(self, error: Exception, parts: tuple[str, ...]) -> TemporaryError:
        # Client libraries of object stores raise what they like; of all of it the caller can only try again.
        return TemporaryError(
            f"the archive {self.address} could not be reached for {'/'.join(parts)}: {type(error).__name__}: {error}",
            hint="check the address, the credentials and the free space, then try again",
        )


def _file_system(protocol: str, options: dict[str, Any]) -> Any:
    if protocol in ("gs", "gcs"):
        # What fsspec names for gs:// first asks over gRPC which kind of bucket it is, and waits a minute where only the
        # JSON API answers, as behind a proxy. Whole files need no more than that API.
        from gcsfs.core import GCSFileSystem

        return GCSFileSystem(**options)
    import fsspec

    return fsspec.filesystem(protocol, **options)
