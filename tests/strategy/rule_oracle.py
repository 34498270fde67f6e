"""Rules evaluated the slow way: the tree is walked anew for every bar and looks back into the columns by itself."""

from __future__ import annotations

import math

from tapeline.core.rule_nodes import (
    Arithmetic,
    Between,
    Call,
    Comparison,
    Crossing,
    Duration,
    Held,
    Logical,
    Name,
    Negative,
    Not,
    Number,
)


def known(number):
    return number if number is not None and math.isfinite(number) else None


def every(truths):
    truths = list(truths)
    if False in truths:
        return False
    return None if None in truths else True


def compared(operator, left, right):
    if left is None or right is None:
        return None
    return {
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
        "==": left == right,
        "!=": left != right,
    }[operator]


class Oracle:
    """``columns`` are lists by name, ``closes`` nanoseconds; the state of the position is written down bar by bar."""

    def __init__(self, rules, columns, closes):
        self.rules, self.columns, self.closes = rules, columns, closes
        self.positions = []

    def value(self, node, row):
        match node:
            case Number(value=value):
                return value
            case Duration(nanoseconds=nanoseconds):
                return nanoseconds / 1e9
            case Name(name="position.side"):
                return self.positions[row]["side"]
            case Name(name="position.bars"):
                return self.positions[row]["bars"]
            case Name(name="position.return"):
                held = self.positions[row]
                if not held["side"]:
                    return None
                return known(held["side"] * (self.columns["close"][row] / held["entry"] - 1))
            case Name(name=name):
                return known(self.columns[name][row])
            case Negative(value=inner):
                inner = self.value(inner, row)
                return None if inner is None else -inner
            case Arithmetic(operator=operator, left=left, right=right):
                return self.combined(operator, self.value(left, row), self.value(right, row))
            case Call(function=function, arguments=arguments):
                return self.called(function, arguments, row)

    def combined(self, operator, left, right):
        if left is None or right is None or (operator == "/" and right == 0):
            return None
        made = {"+": lambda: left + right, "-": lambda: left - right, "*": lambda: left * right}
        return known(left / right if operator == "/" else made[operator]())

    def called(self, function, arguments, row):
        if function in ("abs", "sqrt", "log", "sign", "minimum", "maximum"):
            given = [self.value(one, row) for one in arguments]
            if None in given or (function == "sqrt" and given[0] < 0) or (function == "log" and given[0] <= 0):
                return None
            return {
                "abs": abs,
                "sqrt": math.sqrt,
                "log": math.log,
                "sign": lambda x: float((x > 0) - (x < 0)),
                "minimum": min,
                "maximum": max,
            }[function](*given)
        bars = int(arguments[1].value)
        if function in ("lag", "difference", "ratio"):
            before = self.value(arguments[0], row - bars) if row >= bars else None
            now = self.value(arguments[0], row)
            return before if function == "lag" else self.combined("-" if function == "difference" else "/", now, before)
        if row < bars - 1:
            return None
        window = [self.value(arguments[0], at) for at in range(row - bars + 1, row + 1)]
        if None in window:
            return None
        return {"mean": lambda w: math.fsum(w) / bars, "highest": max, "lowest": min}[function](window)

    def condition(self, node, row):
        match node:
            case Name(name=name):
                return self.condition(self.rules.conditions[name], row)
            case Call(function="session", arguments=(name,)):
                return self.columns[f"session.{name.value}"][row] == 1
            case Comparison(operator=operator, left=left, right=right):
                return compared(operator, self.value(left, row), self.value(right, row))
            case Between(value=value, low=low, high=high):
                value = self.value(value, row)
                return every(
                    (compared(">=", value, self.value(low, row)), compared("<=", value, self.value(high, row)))
                )
            case Crossing(up=up, value=value, level=level):
                now = compared(">" if up else "<", self.value(value, row), self.value(level, row))
                if row == 0:
                    return every((None, now))
                was = compared("<=" if up else ">=", self.value(value, row - 1), self.value(level, row - 1))
                return every((was, now))
            case Not(condition=inner):
                inner = self.condition(inner, row)
                return None if inner is None else not inner
            case Logical(operator="and", parts=parts):
                return every(self.condition(part, row) for part in parts)
            case Logical(operator="or", parts=parts):
                found = [self.condition(part, row) for part in parts]
                return True if True in found else None if None in found else False
            case Held(condition=inner, bars=0, nanoseconds=length):
                since = self.closes[row] - length
                rows = [at for at in range(row + 1) if self.closes[at] >= since]
                enough = self.closes[0] <= since
                return every([self.condition(inner, at) for at in rows] + ([] if enough else [None]))
            case Held(condition=inner, bars=bars):
                rows = range(max(row - bars + 1, 0), row + 1)
                return every([self.condition(inner, at) for at in rows] + ([] if row >= bars - 1 else [None]))

    def decide(self):
        """One tuple a bar: outcome, rule, other rule, protection, side, target, stop, take."""
        rules = [(one.rule, one.when, one.amounts) for one in self.rules.rules]
        side, bars, entry, stop, take = 0, 0, None, None, None
        acted = {}
        found = []
        for row in range(len(self.closes)):
            opened, high, low, close = (known(self.columns[name][row]) for name in ("open", "high", "low", "close"))
            touched = None
            if side and None not in (opened, high, low) and low <= opened <= high:
                if stop is not None and (low <= stop if side > 0 else high >= stop):
                    touched = "stop"
                elif take is not None and (high >= take if side > 0 else low <= take):
                    touched = "target"
            bars += 1
            if touched:
                side, bars, entry, stop, take = 0, 0, None, None, None
            self.positions.append({"side": side, "bars": bars, "entry": math.nan if entry is None else entry})
            in_session = [
                one.session is None or self.columns[f"session.{one.session}"][row] == 1 for one, _, _ in rules
            ]
            truth = [self.condition(when, row) for _, when, _ in rules]
            acts = [
                truth[n] is True and in_session[n] and row - acted.get(one.name, -(10**9)) > one.cooldown
                for n, (one, _, _) in enumerate(rules)
            ]
            word = {1: "long", -1: "short"}
            outcome, rule, other, decision = "nothing", None, None, (None, None, None)
            exits = [
                one.name
                for n, (one, _, _) in enumerate(rules)
                if one.action == "exit" and acts[n] and side and one.side in ("both", word[side])
            ]
            entries = [n for n, (one, _, _) in enumerate(rules) if one.action in ("long", "short") and acts[n]]
            if exits:
                outcome, rule, decision = "exited", exits[0], (0.0, None, None)
                side, bars, entry, stop, take = 0, 0, None, None, None
                acted[rule] = row
            elif entries:
                best = max(rules[n][0].priority for n in entries)
                entries = [n for n in entries if rules[n][0].priority == best]
                chosen, _, amounts = rules[entries[0]]
                rule = chosen.name
                wanted = 1 if chosen.action == "long" else -1
                opposite = self.rules.policy.opposite
                size = self.value(amounts["size"], row) if "size" in amounts else 1.0
                new_stop = self.value(amounts["stop"], row) if "stop" in amounts else None
                new_take = self.value(amounts["take"], row) if "take" in amounts else None
                if len({rules[n][0].action for n in entries}) > 1:
                    outcome = "conflict"
                elif side == wanted and not self.rules.policy.again:
                    outcome = "held"
                elif side == -wanted and opposite == "ignore":
                    outcome = "opposite_ignored"
                elif side == -wanted and opposite == "exit":
                    outcome, decision = "exited", (0.0, None, None)
                    side, bars, entry, stop, take = 0, 0, None, None, None
                    acted[rule] = row
                else:
                    for n, (one, _, factor) in enumerate(rules):
                        if one.side not in ("both", word[wanted]) or not in_session[n]:
                            continue
                        if one.action == "veto" and truth[n] is not False:
                            if truth[n]:
                                outcome, other = "vetoed", one.name
                                break
                            if one.unknown == "block":
                                outcome, other = "veto_unknown", one.name
                                break
                        if one.action == "size" and truth[n] is not False:
                            if truth[n] is None:
                                outcome, other = "size_unknown", one.name
                                break
                            by = self.value(factor["size"], row)
                            size = None if size is None or by is None else size * by
                    if outcome == "nothing":
                        if size is None or not 0 < size < math.inf:
                            outcome, other = "size_unknown", rule
                        elif ("stop" in amounts and not self.below(wanted, new_stop, close)) or (
                            "take" in amounts and not self.below(wanted, close, new_take)
                        ):
                            outcome, other = "protection_unknown", rule
                        else:
                            outcome, decision = "entered", (wanted * size, new_stop, new_take)
                            stop, take = new_stop, new_take
                            if side != wanted:
                                side, bars, entry = wanted, 0, close
                            acted[rule] = row
            found.append((outcome, rule, other, touched, side, *decision))
        return found

    @staticmethod
    def below(side, first, second):
        return None not in (first, second) and side * (second - first) > 0
