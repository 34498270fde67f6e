"""Forests of scikit-learn as skops files, of which nothing is trusted but the few classes that a forest is made of.

skops trusts all of scikit-learn and some of numpy. Here every node of a file must be of one of a handful of kinds
before skops reads it, and the trees, whose numbers scikit-learn does not check, become arrays that are checked.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tapeline.core.errors import DataError
from tapeline.models.tree_walk import Tree, Trees

_SCHEMA: Final = "schema.json"
_PROTOCOL: Final = 2
MAXIMUM_UNPACKED: Final = 2**29
_MAXIMUM_FILES: Final = 50_000
_MAXIMUM_DEPTH: Final = 100
_ROUNDING: Final = 1e-9
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_TREE: Final = "sklearn.tree._tree.Tree"

_KINDS: Final = {
    ("ObjectNode", "sklearn.ensemble._forest", "RandomForestClassifier"),
    ("ObjectNode", "sklearn.tree._classes", "DecisionTreeClassifier"),
    ("TreeNode", "sklearn.tree._tree", "Tree"),
    ("NdArrayNode", "numpy", "ndarray"),
    ("NdArrayNode", "numpy", "int64"),
    ("DictNode", "builtins", "dict"),
    ("ListNode", "builtins", "list"),
    ("TupleNode", "builtins", "tuple"),
    ("JsonNode", "builtins", "str"),
    ("TypeNode", "builtins", "str"),
}
"""(loader, module, class) of all that a forest's file may hold."""


class Forest:
    """The mean of trees' shares of class 1, as scikit-learn's forests have it, to the bit.

    A row with missing values is scored even where the forest was trained without them: it goes where more of the
    training rows went.
    """

    def __init__(self, trees: Trees) -> None:
        self.trees = trees
        self.width = trees.width

    def over(self, columns: npt.ArrayLike, width: int) -> Forest:
        """The same for rows of ``width`` columns, of which it reads those at ``columns``."""
        return Forest(self.trees.over(columns, width))

    def raw_probability(self, rows: npt.NDArray[np.float32], *, threads: int = 1) -> npt.NDArray[np.float64]:
        """The probability of class 1 for each row."""
        return self.trees.sums(rows, threads=threads) / len(self.trees)


def write_forest(model: Any) -> bytes:
    """A fitted forest as a skops file; the same forest gives the same bytes.

    Only the trees are kept: what a forest of our own knows beside them, such as out-of-bag scores, is not needed to
    score. skops names arrays by their address in memory and stamps the hour; both are replaced.
    """
    import skops.io

    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(_plain(model)))) as source:
        schema = json.loads(source.read(_SCHEMA))
        numbers: dict[int, int] = {}
        files: dict[str, str] = {}
        for node in _nodes(schema):
            if "__id__" in node:
                node["__id__"] = numbers.setdefault(node["__id__"], len(numbers) + 1)
            if "file" in node:
                node["file"] = files.setdefault(node["file"], f"{len(files) + 1}.npy")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
            for former, name in files.items():
                target.writestr(_entry(name), source.read(former))
            target.writestr(_entry(_SCHEMA), json.dumps(schema, sort_keys=True).encode())
    return buffer.getvalue()


def read_forest(content: bytes) -> Forest:
    """The forest of a skops file.

    Raises
    ------
    DataError
        It is no zip, unpacks to more than 512 MiB, holds anything that a forest is not made of, or its trees are none.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    _inspect(content)
    try:
        model = skops.io.loads(content, trusted=[_TREE])
        return Forest(Trees.of([_tree(one.tree_) for one in model.estimators_], int(model.n_features_in_)))
    except DataError:
        raise
    except UntrustedTypesFoundException as error:
        raise DataError(f"the forest's file holds types that are not trusted: {error}") from error
    # What scikit-learn and numpy raise on forged state has no common class.
    except Exception as error:
        raise DataError(f"the forest's file does not parse: {type(error).__name__}: {error}") from error


def _plain(model: Any) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    forest = RandomForestClassifier(n_estimators=len(model.estimators_))
    forest.n_features_in_ = int(model.n_features_in_)
    forest.estimators_ = []
    for one in model.estimators_:
        tree = DecisionTreeClassifier()
        tree.tree_ = one.tree_
        forest.estimators_.append(tree)
    return forest


def _tree(tree: Any) -> Tree:
    if tree.n_outputs != 1 or tree.value.shape[1:] != (1, 2):
        raise DataError(f"a tree of the forest has values of the shape {tree.value.shape}, not of two classes")
    nodes = tree.__getstate__()["nodes"]
    share = np.asarray(tree.value[:, 0, 1], dtype=np.float64)
    if not ((share >= 0) & (share <= 1 + _ROUNDING)).all():
        raise DataError("a tree of the forest has shares that are none")
    return Tree.of_nodes(
        nodes["feature"].astype(np.int64),
        nodes["threshold"].astype(np.float64),
        nodes["missing_go_to_left"].astype(np.bool_),
        nodes["left_child"].astype(np.int64),
        nodes["right_child"].astype(np.int64),
        share,
    )


def _inspect(content: bytes) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as source:
            entries = source.infolist()
            names = {entry.filename for entry in entries}
            if len(entries) > _MAXIMUM_FILES or sum(entry.file_size for entry in entries) > MAXIMUM_UNPACKED:
                raise DataError(f"the forest's file holds {len(entries)} files, or more than {MAXIMUM_UNPACKED} bytes")
            for entry in entries:
                if entry.filename.endswith(".npy"):
                    _inspect_array(source, entry)
            schema = json.loads(source.read(_SCHEMA))
        nodes = list(_nodes(schema))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, OSError, NotImplementedError, EOFError) as error:
        raise DataError(f"this is no skops file: {type(error).__name__}: {error}") from error
    except zipfile.zlib.error as error:  # type: ignore[attr-defined]
        raise DataError(f"this is no skops file: {error}") from error
    if not isinstance(schema, dict) or schema.get("protocol") != _PROTOCOL:
        raise DataError("the forest's file is not of the protocol that this version of skops writes")
    for node in nodes:
        kind = (node.get("__loader__"), node.get("__module__"), node.get("__class__"))
        if "__loader__" in node and kind not in _KINDS:
            raise DataError(
                f"the forest's file holds {'.'.join(map(str, kind[1:]))} as {kind[0]}, which is not trusted",
                hint="only what a forest of scikit-learn is made of is read",
            )
        if "file" in node and node["file"] not in names:
            raise DataError("the forest's file names a part that it does not hold")


def _inspect_array(source: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """An array's header may ask for any amount of memory: it must not ask for more than the file has."""
    with source.open(entry) as file:
        try:
            version = np.lib.format.read_magic(file)
            shape, _, kind = np.lib.format.read_array_header_1_0(file)
        # numpy lets through whatever Python's tokenizer raises on a forged header.
        except Exception as error:
            raise DataError(f"an array of the forest's file has no header: {type(error).__name__}") from error
    if version != (1, 0):
        raise DataError("an array of the forest's file is not of the format that numpy writes")
    if kind.hasobject or math.prod(shape) * kind.itemsize > entry.file_size:
        raise DataError(f"an array of the forest's file claims the shape {shape} of {kind}")


def _nodes(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if depth > _MAXIMUM_DEPTH:
        raise DataError("the forest's file is nested too deeply")
    if isinstance(value, dict):
        yield value
        for part in value.values():
            yield from _nodes(part, depth + 1)
    elif isinstance(value, list):
        for part in value:
            yield from _nodes(part, depth + 1)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry
