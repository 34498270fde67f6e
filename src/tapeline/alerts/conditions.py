"""The compiler: from a rule as people write it to the conditions and the program that the kernel evaluates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from tapeline.alerts import catalogue as known
from tapeline.alerts.catalogue import Catalogue, Context, Function
from tapeline.alerts.engine import indicators as kinds
from tapeline.alerts.engine import table
from tapeline.alerts.engine.compiled import CompiledRule, Condition
from tapeline.alerts.engine.layout import NO_TIMEFRAME, TIMEFRAMES, Indicator, Reading
from tapeline.alerts.held import held_for
from tapeline.alerts.operands import Combined, Operand, Truth, all_of, combine, compare, crosses, mapped, steps_of
from tapeline.alerts.rule import Rule
from tapeline.core.errors import ConfigurationError
from tapeline.core.nanoseconds import SECOND
from tapeline.core.rule_expression import RuleExpressionError, did_you_mean, parse_condition
from tapeline.core.rule_nodes import (
    CONDITIONS,
    Arithmetic,
    Between,
    Call,
    Comparison,
    Crossing,
    Duration,
    Expression,
    Held,
    Logical,
    Name,
    Negative,
    Not,
    Number,
    Text,
    walk,
)

LARGEST_HYSTERESIS: Final = 1e30
_TEXTUAL: Final = ("timeframe", "state", "choice", "text")


def compile_rule(rule: Rule, catalogue: Catalogue | None = None, *, watched: bool | None = None) -> CompiledRule:
    """A rule as the engine takes it.

    Parameters
    ----------
    catalogue:
        What conditions may name; all that there is where absent.
    watched:
        Whether each change of truth is told; what the rule itself asks for where absent.

    Raises
    ------
    RuleExpressionError
        The condition is none, names what is not known, or could never be met; the message shows the place.
    ConfigurationError
        It has too many comparisons.

    Examples
    --------
    >>> rule = Rule(id="r", owner="me", condition='close > 100 and rsi(14, "1h") < 30', symbols=("BTCUSDT",))
    >>> compiled = compile_rule(rule)
    >>> [condition.text for condition in compiled.conditions], compiled.program
    (['close > 100', 'rsi(14, "1h") < 30'], (0, 1, -1))
    """
    functions = catalogue or known.catalogue()
    compiler = _Compiler(rule, functions)
    conditions, program = steps_of(compiler.whole())
    at_close = TIMEFRAMES[rule.timeframe] if rule.frequency == "once_per_bar_close" else 0
    if at_close and not any(_reads(one, at_close) for one in conditions):
        # The kernel keeps only bars that are read: this one says when to ask, and decides nothing.
        program = program or (0,)
        close = compare((Indicator(kinds.CLOSE, at_close), 0), "!=", 0.0, text=f'close("{rule.timeframe}")')
        conditions = (*conditions, close)
    return CompiledRule(
        _id(rule),
        conditions,
        program,
        frequency=table.FREQUENCIES.index(rule.frequency),
        cooldown=round(rule.cooldown.total_seconds() * 1_000),
        bar=TIMEFRAMES[rule.timeframe] // SECOND,
        close_of=at_close,
        watched=rule.watched if watched is None else watched,
    )


def external_keys(rule: Rule | CompiledRule) -> frozenset[str]:
    """The series from outside the kernel that a rule reads, such as ``pattern:double_top:1h``."""
    compiled = compile_rule(rule) if isinstance(rule, Rule) else rule
    return frozenset(one.key for one in _all_indicators(compiled) if one.kind == kinds.EXTERNAL)


def history_needed(rule: Rule | CompiledRule) -> dict[int, int]:
    """Closed bars that must be there before all that a rule reads is known, by timeframe in nanoseconds.

    Examples
    --------
    >>> rule = Rule(id="r", owner="me", condition='rsi(14, "1h") < 30', symbols=("BTCUSDT",))
    >>> history_needed(rule)
    {3600000000000: 14}
    """
    compiled = compile_rule(rule) if isinstance(rule, Rule) else rule
    needed: dict[int, int] = {}
    for one in _all_indicators(compiled):
        if one.timeframe != NO_TIMEFRAME and one.kind not in kinds.COMPUTED:
            needed[one.timeframe] = max(needed.get(one.timeframe, 0), _bars_before(one) + one.closed)
    return needed


def kinds_of(rule: Rule, catalogue: Catalogue | None = None) -> frozenset[str]:
    """The types of alerts that a rule's condition combines, such as ``price`` and ``technical``."""
    functions = catalogue or known.catalogue()
    found = set()
    for node in walk(parse_condition(rule.condition)):
        name = node.name if isinstance(node, Name) else node.function if isinstance(node, Call) else ""
        if name in functions:
            found.add(functions[name].kind)
    return frozenset(found)


class _Compiler:
    """One walk over one condition."""

    def __init__(self, rule: Rule, functions: Catalogue) -> None:
        self.rule, self.functions, self.text = rule, functions, rule.condition
        self.context = Context(TIMEFRAMES[rule.timeframe], _id(rule), rule.owner)

    def whole(self) -> Truth:
        return self.truth(parse_condition(self.text))

    def truth(self, node: Expression) -> Truth:
        match node:
            case Logical(operator="and", parts=parts):
                return Combined("and", tuple(map(self.truth, parts)))
            case Logical(parts=parts):
                return Combined("or", tuple(map(self.truth, parts)))
            case Not(condition=inner):
                return Combined("not", (self.truth(inner),))
            case Comparison(operator=mark, left=left, right=right):
                return self.compared(node, self.operand(left), mark, self.operand(right))
            case Between(value=value, low=low, high=high):
                one, begin, end = self.operand(value), self.operand(low), self.operand(high)
                if isinstance(begin, float) and isinstance(end, float) and begin > end:
                    raise self.error(
                        f"nothing is between {begin:g} and {end:g}", low.start, "the lower bound comes first"
                    )
                above = self.compared(node, one, ">=", begin, text=f"{self.words(value)} >= {self.words(low)}")
                return all_of(
                    above, self.compared(node, one, "<=", end, text=f"{self.words(value)} <= {self.words(high)}")
                )
            case Crossing(up=up, value=value, level=level):
                one, other = self.operand(value), self.operand(level)
                try:
                    return self.let_go(crosses(up, one, other, text=self.words(node)), node)
                except ConfigurationError as error:
                    raise self.placed(error, node) from None
            case Held():
                return self.held(node)
            case Name() | Call():
                built = self.built(node)
                if not isinstance(built, Condition | Combined):
                    raise self.error(
                        f"'{node}' is a value, a condition is needed", node.start, f"compare it, as in {node} > 0"
                    )
                return built
        raise self.error(f"'{node}' is a value, a condition is needed", node.start, "compare it, as in close > 100")

    def operand(self, node: Expression) -> Operand:
        match node:
            case Number(value=value):
                return value
            case Negative(value=inner):
                turned = self.operand(inner)
                return -turned if isinstance(turned, float) else self.combined(node, "*", turned, -1.0)
            case Arithmetic(operator=operator, left=left, right=right):
                return self.combined(node, operator, self.operand(left), self.operand(right))
            case Name() | Call():
                built = self.built(node)
                if isinstance(built, Condition | Combined):
                    raise self.error(f"'{node}' is a condition, a value is needed", node.start)
                return built
        if isinstance(node, CONDITIONS):
            raise self.error(f"'{node}' is a condition, a value is needed", node.start)
        raise self.error(f"{node} is no value here", node.start, "texts and durations are arguments of functions")

    def built(self, node: Name | Call) -> Operand | Truth:
        """What a name or a call stands for."""
        name = node.name if isinstance(node, Name) else node.function
        function = self.functions.get(name)
        if function is None:
            raise self.error(f"'{name}' is not known", node.start, did_you_mean(name, sorted(self.functions)))
        if function.event and self.rule.frequency == "once_per_bar_close":
            raise self.error(
                f"'{node}' holds at the instant of its event only, at a bar's close it is never asked",
                node.start,
                "use the frequency every_time",
            )
        arguments = self.arguments(function, node)
        try:
            built = function.build(arguments, self.context)
        except ConfigurationError as error:
            raise self.placed(error, node) from None
        # A reading is a tuple too: of an indicator and a number.
        if isinstance(built, Combined | Condition):
            truth: Truth = built
        elif isinstance(built, tuple) and not isinstance(built[0], Indicator):
            truth = all_of(*built)
        else:
            return built
        return mapped(truth, lambda one: self.named(one, node, function))

    def named(self, condition: Condition, node: Name | Call, function: Function) -> Condition:
        """A comparison of a function as the function was written."""
        words = self.words(node)
        text = f"{words}: {condition.text}" if condition.text else words
        condition = replace(condition, text=text)
        return condition if function.event else self.let_go(condition, node)

    def arguments(self, function: Function, node: Name | Call) -> dict[str, Any]:
        """A call's arguments by the parameters' names: texts go to those that take texts, all else to the others."""
        given = node.arguments if isinstance(node, Call) else ()
        waiting, found = list(function.parameters), dict[str, Any]()
        for argument in given:
            textual = isinstance(argument, Text | Duration)
            fitting = [one for one in waiting if (one.type in _TEXTUAL) == textual]
            if not fitting:
                raise self.error(f"{argument} is too much", argument.start, f"it is written {function.signature}")
            parameter = fitting[0]
            value: Operand | str
            if textual:
                word = argument.value if isinstance(argument, Text) else str(argument)
                parameter = next((one for one in fitting if _takes(one, word)), fitting[0])
                value = word
            else:
                value = self.operand(argument)
            waiting.remove(parameter)
            try:
                found[parameter.name] = parameter.checked(value)
            except ConfigurationError as error:
                raise self.placed(error, argument) from None
        for parameter in waiting:
            if parameter.required:
                raise self.error(
                    f"{function.name} needs {parameter.name}", node.start, f"it is written {function.signature}"
                )
            default = parameter.default
            found[parameter.name] = self.context.timeframe if default is None else parameter.checked(default)
        return found

    def compared(self, node: Expression, left: Operand, mark: str, right: Operand, *, text: str = "") -> Condition:
        try:
            return self.let_go(compare(left, mark, right, text=text or self.words(node)), node)
        except ConfigurationError as error:
            raise self.placed(error, node) from None

    def combined(self, node: Expression, operator: str, left: Operand, right: Operand) -> Operand:
        try:
            return combine(operator, left, right)
        except ConfigurationError as error:
            raise self.placed(error, node) from None

    def let_go(self, condition: Condition, node: Expression) -> Condition:
        """The comparison with the rule's hysteresis."""
        wanted = self.rule.hysteresis
        if wanted is None:
            return condition
        amount = wanted.absolute
        if wanted.percent is not None:
            if condition.right is not None or condition.threshold == 0.0:
                raise self.error(
                    "a hysteresis in per cent needs a level that is a number other than 0",
                    node.start,
                    "give the hysteresis as 'absolute'",
                )
            amount = abs(condition.threshold) * wanted.percent / 100
        if amount is None or amount > LARGEST_HYSTERESIS:
            raise self.error(f"a hysteresis of {amount} is above {LARGEST_HYSTERESIS:g}", node.start)
        return replace(condition, hysteresis=amount)

    def held(self, node: Held) -> Truth:
        for part in walk(node.condition):
            name = part.name if isinstance(part, Name) else part.function if isinstance(part, Call) else ""
            if isinstance(part, Crossing):
                raise self.error(
                    "a crossing lasts no time, so it cannot hold 'for' one", part.start, _INSTEAD_OF_CROSSING
                )
            if name in self.functions and self.functions[name].event:
                raise self.error(f"'{part}' is an event, it lasts no time and cannot hold 'for' one", part.start)
            if isinstance(part, Held):
                raise self.error(
                    "a 'for' within a 'for' is not understood", part.start, "one 'for' for each comparison"
                )
        inner = self.truth(node.condition)
        try:
            return mapped(
                held_for(inner, node.bars, node.nanoseconds, self.context.timeframe),
                lambda one: replace(one, text=self.words(node)),
            )
        except ConfigurationError as error:
            raise self.placed(error, node) from None

    def words(self, node: Expression) -> str:
        """A node as it was written; in the language's own spelling where it began or ended within brackets."""
        written = " ".join(self.text[node.start : node.end].split())
        return written if written and written.count("(") == written.count(")") else str(node)

    def placed(self, error: ConfigurationError, node: Expression) -> RuleExpressionError:
        """An error that knows no place, at the place of a node."""
        if isinstance(error, RuleExpressionError):
            return error
        return RuleExpressionError(error.message, self.text, node.start, hint=error.hint)

    def error(self, reason: str, position: int, hint: str | None = None) -> RuleExpressionError:
        return RuleExpressionError(reason, self.text, position, hint=hint)


_INSTEAD_OF_CROSSING: Final = "compare instead, as in close > 100 for 2 bars"


def _id(rule: Rule) -> str:
    return f"{rule.id}@{rule.version}"


def _takes(parameter: known.Parameter, value: str) -> bool:
    try:
        parameter.checked(value)
    except ConfigurationError:
        return False
    return True


def _reads(condition: Condition, timeframe: int) -> bool:
    return any(
        timeframe == one.timeframe and one.kind not in kinds.COMPUTED
        for reading in condition.readings()
        for one in _below(reading)
    )


def _below(reading: Reading) -> list[Indicator]:
    """An indicator and all that it is worked out of."""
    found = [reading[0]]
    for side in (reading[0].left, reading[0].right):
        if side is not None:
            found.extend(_below(side))
    return found


def _all_indicators(compiled: CompiledRule) -> list[Indicator]:
    return [one for condition in compiled.conditions for reading in condition.readings() for one in _below(reading)]


_BEFORE: Final[Mapping[int, Any]] = {
    kinds.SMA: lambda one: one.n - 1,
    kinds.EMA: lambda one: one.n - 1,
    kinds.BOLLINGER: lambda one: one.n - 1,
    kinds.RSI: lambda one: one.n,
    kinds.ATR: lambda one: one.n,
    kinds.MACD: lambda one: one.n2 + one.n3 - 2,
}


def _bars_before(one: Indicator) -> int:
    """Closed bars before the forming one at which an indicator is known."""
    return int(_BEFORE[one.kind](one)) if one.kind in _BEFORE else one.n


__all__ = ["compile_rule", "external_keys", "history_needed", "kinds_of"]
