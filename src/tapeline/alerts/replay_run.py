"""Rules over recorded sessions: the records take the way of live ones, and nobody is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tapeline.alerts.conditions import compile_rule
from tapeline.alerts.engine.evaluator import Evaluator
from tapeline.alerts.feeds.batcher import Tick
from tapeline.alerts.feeds.replay import Missing, replay_batches, session_records
from tapeline.alerts.firing import Firing
from tapeline.alerts.processor import AlertProcessor
from tapeline.alerts.routing import Router
from tapeline.alerts.rule import Rule
from tapeline.alerts.series import SeriesFeeds
from tapeline.core.errors import ConfigurationError
from tapeline.streams.dialects.base import Dialect


def replay_rules(rules: Sequence[Rule], recordings: Sequence[Path], dialect: Dialect) -> list[Firing]:
    """The firings of rules in recorded sessions, in their order.

    Raises
    ------
    ConfigurationError
        No rule names a symbol.
    """
    symbols = symbols_named(rules)
    return list(replayed(rules, session_records(recordings, dialect, {name: name for name in symbols})))


def symbols_named(rules: Iterable[Rule]) -> list[str]:
    """The symbols that rules name, each once.

    Raises
    ------
    ConfigurationError
        There is none.
    """
    symbols = sorted({symbol for rule in rules for symbol in rule.symbols if symbol != "*"})
    if not symbols:
        raise ConfigurationError("no rule names a symbol to replay", hint="'*' names none")
    return symbols


def replayed(rules: Sequence[Rule], records: Iterable[Tick | Missing]) -> Iterator[Firing]:
    """The firings of rules over records, as they would have been live: bars tell of patterns and divergences here too.

    Nothing is known of before the first record: indicators and detectors begin empty.

    Parameters
    ----------
    records:
        In the order in which they came, of symbols that the rules name.
    """
    symbols = symbols_named(rules)
    engine = Evaluator(symbols)
    processor = AlertProcessor(Router({}, lambda firing, rule, route: ""), engine.names, engine.rule)
    inhibitors = {name for rule in rules for name in rule.inhibited_by}
    pairs = [(rule, compile_rule(rule, watched=rule.watched or rule.id in inhibitors)) for rule in rules]
    watched = {rule.id: tuple(symbols) if rule.symbols == ("*",) else rule.symbols for rule in rules}
    engine.add_all((compiled, watched[rule.id]) for rule, compiled in pairs)
    processor.set_rules(pairs)
    series = SeriesFeeds(engine)
    series.set_rules((compiled, watched[rule.id]) for rule, compiled in pairs)
    begun = False
    for made in replay_batches(records, engine.symbols, source="recording"):
        batch, taken = series.take(*made)
        if not begun and len(taken.times):
            begun = True
            for rule in rules:
                processor.watch_silence(rule, watched[rule.id], int(taken.times[0]))
        commit = processor.take(engine.process(batch), taken._replace(records=batch.records), int(taken.times[-1]))
        yield from commit.firings
