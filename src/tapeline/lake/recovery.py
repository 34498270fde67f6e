"""Recovery: what dead writers left behind, removed or completed."""

from __future__ import annotations

from pathlib import Path

from tapeline.core.errors import TemporaryError
from tapeline.lake.content import canonical, content_hash
from tapeline.lake.manifest import Manifest
from tapeline.lake.parquet import read_footer, read_rows, read_schema
from tapeline.lake.partition import partitions, places
from tapeline.lake.status import held, spec_of
from tapeline.lake.writer import locked, stale_files


def recover(root: Path) -> list[Path]:
    """Remove stale temporary files and rebuild manifests; see :meth:`tapeline.lake.lake.Lake.recover`."""
    touched = []
    for place in places(root):
        folder = place.folder(root)
        try:
            with locked(root, place, seconds=0):
                for path in stale_files(folder):
                    path.unlink(missing_ok=True)
                    touched.append(path)
                for partition in partitions(folder):
                    footer = read_footer(partition.path)
                    manifest = Manifest(root, place, partition.label)
                    if manifest.rebuild(footer.content, footer.rows):
                        touched.append(manifest.path)
        except TemporaryError:
            continue  # a live writer holds this series, and cleans up after itself
    return touched


def damaged(root: Path) -> list[Path]:
    """The files whose rows do not have the content hash that their footer names; reads everything.

    A file that cannot be read raises DataError at once, as every read of it would.
    """
    found = []
    for place, files in held(root):
        for partition in files:
            spec = spec_of(place, partition)
            # Its own columns: what the table gained later was not hashed when the file was written.
            footer, table = read_rows(partition.path, spec, read_schema(partition.path)[1].names)
            if content_hash(canonical(table), without=spec.provenance) != footer.content:
                found.append(partition.path)
    return found
