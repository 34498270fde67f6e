"""Content hashes: the version of data, code and configuration is what they are, not when they were made."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from tapeline.core.errors import ConfigurationError

DIGEST_LENGTH: Final = 16
"""Hexadecimal digits of a version: 64 bits, so that a collision among a million versions has a chance of 3e-8."""

NUMBERLESS_MODULES: Final = frozenset({"tapeline.core.errors", "tapeline.core.registry"})
"""Modules that declare and refuse but compute nothing: another error message is not another feature."""

# What differs between Python versions or only serves a type checker, and never changes a number.
_IGNORED_FIELDS: Final = frozenset({"ctx", "kind", "type_comment", "type_ignores", "type_params"})


def digest(value: Any) -> str:
    """The content hash of a JSON-like value (mappings, sequences, texts, numbers, booleans, None).

    Mappings hash by content, not by order; floats by their shortest exact form. Other types raise TypeError, so that
    nothing is ever hashed by its memory address.

    Examples
    --------
    >>> digest({"a": 1, "b": [2.5]}) == digest({"b": [2.5], "a": 1})
    True
    >>> len(digest("EURUSD"))
    16
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_refuse)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def digest_bytes(*parts: bytes | memoryview) -> str:
    """The content hash of byte strings, each preceded by its length so that borders count."""
    running = hashlib.sha256()
    for part in parts:
        running.update(len(part).to_bytes(8, "little"))
        running.update(part)
    return running.hexdigest()[:DIGEST_LENGTH]


def code_digest(code: Callable[..., Any] | str) -> str:
    """The content hash of the code that can decide what a function returns.

    Parameters
    ----------
    code:
        A function, or the dotted name of a module.

    Returns
    -------
    The hash of the syntax tree of the function's module and of every module of the same package, or of Tapeline, that
    it imports, directly or not, at the top of a file or inside a function. The import statements are read, nothing is
    executed. Comments, docstrings, line numbers and layout do not count; ``NUMBERLESS_MODULES`` are left out. The
    versions of third-party packages are not part of it: MLflow logs those with each model.

    Raises
    ------
    ConfigurationError
        The source cannot be found, as for a function typed at a prompt.

    Examples
    --------
    >>> from tapeline.core.pit import asof_join, join_timeframe
    >>> code_digest(asof_join) == code_digest(join_timeframe) == code_digest("tapeline.core.pit")
    True
    >>> code_digest(asof_join) == code_digest(digest)
    False
    """
    if isinstance(code, str):
        name, file = code, _module_file(code)
    else:
        plain = inspect.unwrap(code)
        name = plain.__module__
        source = inspect.getsourcefile(plain) if hasattr(plain, "__code__") else None
        # A function that a factory made lives in the module that called it, which imports the factory.
        file = (_module_file(name) or Path(source)) if source and Path(source).is_file() else None
    if file is None or not file.is_file():
        raise ConfigurationError(
            f"the source of {name} cannot be found, so its code has no version", hint="define it in a file"
        )
    trees: dict[str, str] = {}
    waiting: list[tuple[str, Path]] = [(name, file)]
    packages = {"tapeline", name.partition(".")[0]}
    while waiting:
        module, path = waiting.pop()
        if module in trees:
            continue
        stat = path.stat()
        trees[module], imported = _module_facts(str(path), module, stat.st_mtime_ns, stat.st_size)
        for target in imported:
            if target.partition(".")[0] not in packages or target in NUMBERLESS_MODULES or target in trees:
                continue
            found = _module_file(target)
            if found is not None:
                waiting.append((target, found))
    return digest(trees)


def code_of_source(source: str) -> str:
    """The hash of one module's syntax tree: what :func:`code_digest` sees of a file.

    Examples
    --------
    >>> code_of_source("x = 1  # one") == code_of_source("x   =   1")
    True
    >>> code_of_source("x = 1") == code_of_source("x = 2")
    False
    """
    running = hashlib.sha256()
    for token in _tokens(ast.parse(source)):
        running.update(token.encode())
        running.update(b"\0")
    return running.hexdigest()[:DIGEST_LENGTH]


@lru_cache(maxsize=512)
def _module_facts(path: str, module: str, _modified: int, _size: int) -> tuple[str, tuple[str, ...]]:
    """The hash of one file and the dotted names it imports; cached until the file changes."""
    source = Path(path).read_text(encoding="utf-8")
    package = module if Path(path).name == "__init__.py" else module.rpartition(".")[0]
    return code_of_source(source), tuple(sorted(set(_imported(ast.parse(source), package))))


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield base
            for alias in node.names:
                # ``from package import module`` and ``from module import function`` look alike: the file decides.
                yield f"{base}.{alias.name}"


def _module_file(name: str) -> Path | None:
    """The file of a module, found from its top-level package without importing anything below that."""
    top, _, rest = name.partition(".")
    loaded = sys.modules.get(top)
    folders = list(getattr(loaded, "__path__", []))
    if not folders and loaded is None:
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return None
        folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder, *rest.split(".")) if rest else Path(folder)
        for candidate in (path / "__init__.py", path.with_suffix(".py")):
            if candidate.is_file():
                return candidate
    file = getattr(loaded, "__file__", None)
    return Path(file) if file and not rest else None


def _tokens(node: ast.AST) -> Iterator[str]:
    """A syntax tree as a sequence of texts that is the same on every supported version of Python."""
    yield f"({type(node).__name__}"
    for field, value in ast.iter_fields(node):
        if field in _IGNORED_FIELDS or value is None or value == []:
            continue
        if field == "body" and isinstance(value, list) and _has_docstring(node):
            value = value[1:]
            if not value:
                continue
        yield f".{field}"
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, ast.AST):
                yield from _tokens(item)
            else:
                yield f"{type(item).__name__}:{item!r}"
    yield ")"


def _has_docstring(node: ast.AST) -> bool:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return bool(
        node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
        and isinstance(node.body[0].value.value, str)
    )


def _refuse(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no content hash; pass its plain values")
