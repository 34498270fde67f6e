"""The rules that are to be in force, those of the files and those of the database as one, and what changed of them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from tapeline.alerts.rule import Rule
from tapeline.alerts.rule_files import ENDINGS, Problem, RuleFileError, load_rules
from tapeline.alerts.rules_in_force import ALL, Change, Prepared, prepare
from tapeline.alerts.store.store import Store
from tapeline.core.errors import ConfigurationError, TapelineError

_log = logging.getLogger(__name__)
_PAGE: Final = 1_000
Stamp = tuple[int, int, int]


class RuleSource:
    """Rules of files (or given ones) and of the database together; an id in both: the file's wins, and it is told.

    Files are read again where they changed, each by itself; of the database the changes behind the last one seen are
    read. A file that cannot be read changes nothing; a rule of the database that does not compile, or names a symbol
    that is not known, is left out and told in :attr:`problems`, and what stood of it stays.

    Parameters
    ----------
    files:
        A file or folder; or rules.
    store:
        Where the others are; none where absent.
    knows:
        Whether a symbol may be named by rules of the database; any may where absent.

    Examples
    --------
    >>> source = RuleSource([Rule(id="r", owner="me", condition="close > 1", symbols=("A",))])
    >>> [one.rule.id for one in source.begin().rules], source.changes()
    (['r'], Change(rules=(), removed=(), symbols=(), dropped=(), suspended=(), resumed=()))
    """

    def __init__(
        self,
        files: Path | Sequence[Rule] = (),
        store: Store | None = None,
        *,
        knows: Callable[[str], bool] | None = None,
    ) -> None:
        self.problems: dict[str, str] = {}
        """By id, why a rule of the database is not in force; by file name, why a file is not."""
        self.references: Counter[str] = Counter()
        """How many rules name a symbol."""
        self._files, self._store, self._knows = files, store, knows
        self._stamps: dict[Path, Stamp] = {}
        self._of_file: dict[Path, dict[str, Rule]] = {}
        self._filed: dict[str, Rule] = {}
        self._stored: dict[str, Rule] = {}
        self._meant: dict[str, Rule] = {}
        self._told: set[str] = set()
        self._touched: dict[str, None] = {}
        self._number = 0

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that are to be in force."""
        return tuple(self._meant.values())

    def begin(self) -> Change:
        """All rules, read for the first time.

        Raises
        ------
        RuleFileError
            A file cannot be read.
        ConfigurationError
            There is no such file or folder, or a given rule does not compile.
        """
        if isinstance(self._files, Path):
            load_rules(self._files)
            self._read_files(self._seen(self._files))
        else:
            self._filed = {rule.id: rule for rule in self._files}
        if self._store is not None:
            standing = self._store.rules()
            self._stored = {one.rule.id: one.rule for one in standing}
            self._number = max((one.number for one in standing), default=0)
        return self._change([*self._filed, *(id for id in self._stored if id not in self._filed)])

    def changes(self, *, again: Iterable[str] = ()) -> Change:
        """What changed since the last call.

        Parameters
        ----------
        again:
            Ids to look at though they did not change: of rules with problems, where other symbols are known now.

        Raises
        ------
        TemporaryError
            The database does not answer; nothing is lost, the next call has it.
        """
        # What was found stays noted until it was worked out: a read that fails in between loses nothing.
        self._touched.update(dict.fromkeys(again))
        if isinstance(self._files, Path):
            self._touched.update(dict.fromkeys(self._file_changes(self._files)))
        if self._store is not None:
            while page := self._store.rule_changes(self._number, limit=_PAGE):
                for one in page:
                    if one.deleted:
                        self._stored.pop(one.rule.id, None)
                    else:
                        self._stored[one.rule.id] = one.rule
                    self._touched[one.rule.id] = None
                    self._number = one.number
        if not self._touched:
            return Change()
        change = self._change(self._touched)
        self._touched = {}
        return change

    def _change(self, touched: Iterable[str]) -> Change:
        rules: list[Prepared] = []
        removed: list[str] = []
        for id in touched:
            rule = self._filed.get(id) or self._stored.get(id)
            if id in self._filed and id in self._stored and id not in self._told:
                self._told.add(id)
                _log.warning("rule %s is in a file and in the database: the file's is in force", id)
            standing = self._meant.get(id)
            if rule is None or not rule.enabled:
                self.problems.pop(id, None)
                if standing is not None:
                    self._note(id, None)
                    removed.append(id)
                continue
            if rule == standing:
                continue
            problem = "" if id in self._filed else self._unknown(rule)
            try:
                made = prepare(rule)
            except (TapelineError, ValueError, ArithmeticError, RecursionError) as error:
                if id in self._filed:
                    raise
                problem = error.message if isinstance(error, TapelineError) else f"{type(error).__name__}: {error}"
            if problem:
                self.problems[id] = problem
                _log.warning("rule %s of the database is not in force: %s", id, problem)
                continue
            self.problems.pop(id, None)
            self._note(id, rule)
            rules.append(made)
        return Change(tuple(rules), tuple(removed))

    def _note(self, id: str, rule: Rule | None) -> None:
        for sign, one in ((-1, self._meant.get(id)), (1, rule)):
            if one is not None and one.symbols != ALL:
                for symbol in one.symbols:
                    self.references[symbol] += sign
                    if not self.references[symbol]:
                        del self.references[symbol]
        if rule is None:
            del self._meant[id]
        else:
            self._meant[id] = rule

    def _unknown(self, rule: Rule) -> str:
        if self._knows is None or rule.symbols == ALL:
            return ""
        missing = [one for one in rule.symbols if not self._knows(one)]
        return f"{', '.join(missing[:5])} is not known" if missing else ""

    def _file_changes(self, path: Path) -> list[str]:
        seen = self._seen(path)
        if seen == self._stamps:
            return []
        before = self._filed
        try:
            self._read_files(seen)
        except ConfigurationError as error:
            self._stamps = seen
            # What stood goes on: a file that cannot be read must not take the others with it.
            _log.error("the rules of the files were not changed: %s", error)
            self.problems[path.name] = str(error)
            return []
        self.problems.pop(path.name, None)
        now = self._filed
        return [id for id in {**before, **now} if before.get(id) != now.get(id)]

    def _read_files(self, seen: dict[Path, Stamp]) -> None:
        """Read what changed; all of it or none.

        Raises
        ------
        RuleFileError
            A file cannot be read, or two have a rule of the same id.
        """
        of_file = {
            file: self._of_file[file]
            if self._stamps.get(file) == stamp and file in self._of_file
            else {rule.id: rule for rule in load_rules(file)}
            for file, stamp in seen.items()
        }
        found: dict[str, Rule] = {}
        for file, rules in of_file.items():
            for id, rule in rules.items():
                if id in found:
                    raise RuleFileError((Problem(file.name, 1, id, "the id is taken by a rule of another file"),))
                found[id] = rule
        self._of_file, self._stamps, self._filed = of_file, seen, found

    @staticmethod
    def _seen(path: Path) -> dict[Path, Stamp]:
        files = sorted(one for one in path.iterdir() if one.suffix in ENDINGS) if path.is_dir() else [path]
        found: dict[Path, Stamp] = {}
        for file in files:
            try:
                stat = file.stat()
            except FileNotFoundError:
                continue
            found[file] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return found
