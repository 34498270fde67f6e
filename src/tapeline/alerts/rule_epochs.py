"""Which rules held from which batch on: what a replay of the journal must know besides the batches."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from tapeline.alerts.rule import Rule
from tapeline.core.errors import DataError
from tapeline.streams.segments import sync_folder

_PREFIX = "rules-"


class RuleEpochs:
    """Files ``rules-<position>.json``: the rules in force for all batches after that position of the journal.

    Parameters
    ----------
    folder:
        Where they lie; made where it is not there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     epochs = RuleEpochs(Path(folder))
    ...     epochs.write(7, [Rule(id="r", owner="o", condition="close > 1", symbols=("A",))])
    ...     [(position, [rule.id for rule in rules]) for position, rules in epochs.read()]
    [(7, ['r'])]
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, position: int, rules: Iterable[Rule]) -> None:
        """Make it durable that these rules hold for the batches after a position."""
        path = self.folder / f"{_PREFIX}{position:020d}.json"
        beside = path.with_suffix(".tmp")
        text = json.dumps([rule.model_dump(mode="json") for rule in rules])
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(self.folder)

    def read(self, after: int = 0) -> list[tuple[int, tuple[Rule, ...]]]:
        """The epochs in their order, from the one that holds at ``after`` on.

        Raises
        ------
        DataError
            A file cannot be read.
        """
        found = []
        for path in sorted(self.folder.glob(f"{_PREFIX}*.json")):
            try:
                rules = tuple(Rule.model_validate(one) for one in json.loads(path.read_text(encoding="utf-8")))
            except ValueError as error:
                raise DataError(f"{path}: the rules of an epoch cannot be read: {error}") from None
            found.append((int(path.stem.removeprefix(_PREFIX)), rules))
        begin = max((number for number, (position, _) in enumerate(found) if position <= after), default=0)
        return found[begin:]

    def remove(self, before: int) -> None:
        """Remove what no replay after a position needs."""
        keep = {position for position, _ in self.read(before)}
        for path in self.folder.glob(f"{_PREFIX}*.json"):
            if int(path.stem.removeprefix(_PREFIX)) not in keep:
                path.unlink(missing_ok=True)
