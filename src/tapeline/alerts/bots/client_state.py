"""What a signal client must not forget: how far it is, what it began, and what it has not said yet."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tapeline.alerts.bots.acknowledgement import Acknowledgement
from tapeline.core.errors import DataError

KEPT_IDS: Final = 2_000


@dataclass(frozen=True)
class ClientState:
    """Where a client stands.

    Parameters
    ----------
    cursor:
        The place of the last signal that it is done with.
    begun:
        The signal that it had begun to act on, as JSON; empty where there is none.
    unsaid:
        Acknowledgements that we have not heard of yet, by signal.
    done:
        The newest signals that it is done with.
    """

    cursor: int = 0
    begun: str = ""
    unsaid: Mapping[str, Acknowledgement] = field(default_factory=dict)
    done: tuple[str, ...] = ()

    def finished(self, id: str, sequence: int, said: Acknowledgement | None) -> ClientState:
        """The state after a signal."""
        unsaid = dict(self.unsaid) | ({id: said} if said is not None else {})
        cursor = max(self.cursor, sequence)
        return replace(self, cursor=cursor, begun="", unsaid=unsaid, done=(*self.done, id)[-KEPT_IDS:])


class ClientStateFile:
    """A client's state in a file: whole or not at all, and on the disk when a call returns."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> ClientState:
        """The state; the first one where there is no file.

        Raises
        ------
        DataError
            The file is damaged. To begin anew, delete it: what the bot acknowledged is not sent again.
        """
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
            unsaid = {id: Acknowledgement(**said) for id, said in known["unsaid"].items()}
            return ClientState(int(known["cursor"]), str(known["begun"]), unsaid, tuple(known["done"]))
        except FileNotFoundError:
            return ClientState()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"the state of the signal client in {self._path} is damaged: {error}") from None

    def save(self, state: ClientState) -> None:
        """Keep it."""
        plain: dict[str, Any] = {
            "cursor": state.cursor,
            "begun": state.begun,
            "unsaid": {id: asdict(said) for id, said in state.unsaid.items()},
            "done": list(state.done),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(self._path.name + ".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(plain, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
