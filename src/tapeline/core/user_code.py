"""A user's own components: found in an importable module or in a file that lies anywhere."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from tapeline.core.errors import ConfigurationError
from tapeline.core.registry import Component, component_of, registered


def load_user_component(target: str, *, folder: Path | None = None) -> list[Component]:
    """The components that ``target`` names. This imports, hence runs, the module or file: name only what you trust.

    Parameters
    ----------
    target:
        ``package.module`` or ``path/to/file.py``, for every component it registers itself; with ``:function``, for
        that one.
    folder:
        What a relative path starts from; the working directory where absent.

    Returns
    -------
    At least one component, in the order of definition. A function that is named but not decorated is taken as a
    feature that declares neither columns nor lookback: it can be audited for look-ahead, but not used in a set.

    Raises
    ------
    ConfigurationError
        There is no such module, file or function, importing it fails, or it registers nothing.

    Examples
    --------
    >>> [component.name for component in load_user_component("tapeline.features.momentum:rsi")]
    ['rsi']
    """
    place, _, name = target.partition(":")
    # A drive letter of Windows has a colon of its own.
    if len(place) == 1 and name.startswith(("\\", "/")):
        rest, _, name = name.partition(":")
        place = f"{place}:{rest}"
    module = _from_file(place, folder) if place.endswith(".py") else _from_name(place)
    if not name:
        found = registered(module)
        if not found:
            raise ConfigurationError(
                f"'{place}' registers no component", hint="decorate a function with @feature, @pattern or @label"
            )
        return found
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigurationError(f"'{place}' has no function '{name}'")
    try:
        return [component_of(function)]
    except ConfigurationError:
        return [Component("feature", name, function, lookback=0, outputs=(), reference="not registered")]


def _from_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ConfigurationError(f"module '{name}' cannot be imported: {error}") from error


def _from_file(text: str, folder: Path | None) -> ModuleType:
    path = ((folder or Path.cwd()) / Path(text).expanduser()).resolve()
    if not path.is_file():
        raise ConfigurationError(f"there is no file '{path}'")
    # The name is the same wherever the file lies, because it is part of the code's version; a second file of the same
    # name would take the place of the first one in sys.modules, so each load gets a module object of its own.
    name = f"user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"'{path}' is not a Python file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and numba look a module up while it is being executed
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        if before is None:
            sys.modules.pop(name, None)
        else:
            sys.modules[name] = before
        raise ConfigurationError(f"'{path}' cannot be imported: {type(error).__name__}: {error}") from error
    return module
