"""Files that are there whole or not at all: written beside their place, then moved onto it in one step."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tapeline.core.errors import DataError

MODE = 0o644


def write_whole(path: Path, content: str | bytes, *, what: str) -> Path:
    """Write a file, text as UTF-8, in one step, its folder with it; a reader sees the former file or this one.

    Parameters
    ----------
    path, content:
        Where, and what.
    what:
        What the file is, for the error: ``report``.

    Returns
    -------
    The absolute path.

    Raises
    ------
    DataError
        The file cannot be written; nothing is left beside its place.

    Examples
    --------
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_whole(folder / "new" / "page.html", "<p>", what="page").read_text()
    '<p>'
    >>> [found.name for found in (folder / "new").iterdir()]
    ['page.html']
    """
    target = path.resolve()
    scratch: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        scratch = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        scratch.chmod(MODE)
        return scratch.replace(target)
    except OSError as error:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
        raise DataError(f"the {what} {target} cannot be written: {error.strerror}") from error
