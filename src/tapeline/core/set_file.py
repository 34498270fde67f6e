"""Set files: the TOML texts that name a feature set or a label set, packaged with Tapeline or the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from tapeline.core.errors import ConfigurationError


@dataclass(frozen=True)
class SetFile:
    """The text of a set, the folder that relative paths in it start from (None for a packaged one), and its name."""

    text: str
    folder: Path | None
    name: str


def packaged_sets(package: str, folder: str = "sets") -> list[str]:
    """The names of the sets that a package of Tapeline carries in a folder of its own.

    Examples
    --------
    >>> "core" in packaged_sets("tapeline.features")
    True
    """
    entries = (resources.files(package) / folder).iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))


def read_set_file(source: Path | str, package: str, what: str, *, folder: str = "sets") -> SetFile:
    """Read a set by the name of a packaged one or by the path of a file; ``what`` names its kind in errors.

    Raises
    ------
    ConfigurationError
        It is neither, or the file cannot be read as UTF-8 text.
    """
    if isinstance(source, str) and source in packaged_sets(package, folder):
        text = (resources.files(package) / folder / f"{source}.toml").read_text("utf-8")
        return SetFile(text, None, source)
    path = Path(source)
    if not path.is_file():
        raise ConfigurationError(
            f"{what} '{source}' is neither a file nor a packaged one",
            hint=f"the packaged ones are {', '.join(packaged_sets(package, folder))}",
        )
    try:
        return SetFile(path.read_text("utf-8"), path.parent, f"'{path}'")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{what} '{path}' cannot be read: {error}") from error
