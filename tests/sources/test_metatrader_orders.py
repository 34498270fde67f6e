from __future__ import annotations

import re

import pytest

from tapeline.core.errors import ConfigurationError, TapelineError, TemporaryError
from tapeline.sources import metatrader_returns as returns
from tapeline.sources.metatrader_orders import OrderDesk, PositionNotFoundError, TradingSwitchedOffError
from tapeline.sources.metatrader_returns import DONE_CODES, TRADE_ERRORS_BY_CODE, trade_error
from tapeline.sources.metatrader_session import AnswerLostError
from tapeline.sources.metatrader_structures import MarginMode, OrderType
from tests.sources.terminals import SECOND, pair, session_of, terminal, ticks

BUY, SELL = OrderType.BUY, OrderType.SELL


def desk_of(package, *, trading=True):
    return OrderDesk(session_of(package, trading=trading), magic=77)


def move(package, *quotes, symbol="EURUSD"):
    start = package.account.now
    package.load_ticks(symbol, ticks([(k + 1, *quote) for k, quote in enumerate(quotes)], start))
    package.advance(start + len(quotes))


def test_nothing_is_sent_unless_the_settings_say_so():
    package = terminal()
    desk = OrderDesk(session_of(package))
    request = desk.market("EURUSD", BUY, 0.1)
    before = list(package.calls)
    with pytest.raises(TradingSwitchedOffError, match=r"metatrader\.trading"):
        desk.send(request)
    assert package.calls == before, "the terminal was not even asked"
    assert desk.check(request).retcode == 0
    assert "order_send" not in package.calls


def test_every_send_is_checked_first():
    package = terminal()
    desk = desk_of(package)
    desk.buy("EURUSD", 0.1)
    trades = [call for call in package.calls if call.startswith("order_")]
    assert trades == ["order_check", "order_send"]
    with pytest.raises(returns.NoMoneyError):
        desk.buy("EURUSD", 50)
    assert package.calls.count("order_send") == 1


def test_margin_and_profit_are_those_of_the_reference():
    # MetaQuotes' examples of order_calc_margin (0.1 lot, leverage 100) and order_calc_profit (300 points, 1 lot).
    ask = session_of(terminal()).ask
    assert ask("order_calc_margin", 0, "EURUSD", 0.1, 1.0991) == pytest.approx(109.91)
    assert ask("order_calc_margin", 0, "USDJPY", 0.1, 108.49) == pytest.approx(100.0)
    assert ask("order_calc_margin", 0, "EURJPY", 0.1, 119.23) == pytest.approx(109.91)
    assert ask("order_calc_profit", 0, "EURUSD", 1.0, 1.0990, 1.1020) == pytest.approx(300.0)
    assert ask("order_calc_profit", 1, "EURUSD", 1.0, 1.1020, 1.0990) == pytest.approx(300.0)
    assert ask("order_calc_profit", 0, "USDJPY", 1.0, 108.182, 108.482) == pytest.approx(276.54, abs=0.01)


def test_a_position_lives_and_its_deals_account_for_the_balance():
    package = terminal()
    desk = desk_of(package)
    result = desk.buy("EURUSD", 0.3, sl=1.09, tp=1.11, comment="first")
    assert (result.retcode, result.price, result.volume) == (10009, 1.0991, 0.3)
    session = desk._session
    position = session.positions("EURUSD")[0]
    assert (position.ticket, position.magic, position.comment) == (result.order, 77, "first")
    assert session.account().margin == pytest.approx(329.73)
    assert session.account().equity == pytest.approx(10_000 - 3.0)
    move(package, (1.1010, 1.1011))
    assert session.account().profit == pytest.approx(57.0)
    desk.modify_position(position.ticket, sl=1.10, tp=0.0)
    with pytest.raises(returns.NoChangesError):
        desk.modify_position(position.ticket, sl=1.10, tp=0.0)
    assert session.positions()[0].sl == 1.10
    desk.close(position.ticket, 0.1)
    assert session.positions()[0].volume == pytest.approx(0.2)
    desk.close(position.ticket)
    deals = session.ask("history_deals_get", 0, SECOND * 2)
    assert [(deal.entry, deal.volume) for deal in deals] == [(0, 0.3), (1, 0.1), (1, pytest.approx(0.2))]
    assert session.account().balance == pytest.approx(10_000 + sum(deal.profit for deal in deals))
    assert session.account().balance == pytest.approx(10_057.0)
    assert session.account().margin == 0.0
    with pytest.raises(PositionNotFoundError):
        desk.close(position.ticket)


def test_stops_and_pending_orders_act_on_ticks():
    package = terminal()
    desk = desk_of(package)
    desk.buy("EURUSD", 0.1, sl=1.0980)
    limit = desk.pending("EURUSD", OrderType.BUY_LIMIT, 0.2, 1.0970)
    assert desk.send(limit).retcode == 10008
    assert [order.price_open for order in desk._session.orders()] == [1.0970]
    move(package, (1.0979, 1.0980))
    assert desk._session.positions() == ()
    move(package, (1.0969, 1.0970))
    assert desk._session.orders() == ()
    assert desk._session.positions()[0].price_open == 1.0970
    order = desk.send(desk.pending("EURUSD", OrderType.SELL_STOP, 0.1, 1.0950)).order
    desk.modify_order(order, price=1.0940)
    assert desk._session.orders()[0].price_open == 1.0940
    desk.cancel(order)
    with pytest.raises(returns.InvalidOrderError):
        desk.cancel(order)
    with pytest.raises(returns.InvalidPriceError):
        desk.send(desk.pending("EURUSD", OrderType.BUY_LIMIT, 0.1, 1.2))


def test_hedging_keeps_both_sides_and_charges_the_hedge_once():
    package = terminal()
    desk = desk_of(package)
    one, two = desk.buy("EURUSD", 0.3).order, desk.sell("EURUSD", 0.1).order
    assert len(desk._session.positions()) == 2
    assert desk._session.account().margin == pytest.approx(109.91 * 3)
    result = desk.close_by(one, two)
    assert result.volume == pytest.approx(0.1)
    assert [(p.ticket, p.volume) for p in desk._session.positions()] == [(one, pytest.approx(0.2))]
    # The pair was closed at the spread it was opened with: 0.1 lot, one pip.
    assert desk._session.account().balance == pytest.approx(9_999.0)


def test_netting_adds_reduces_and_turns():
    package = terminal(mode=MarginMode.NETTING)
    desk = desk_of(package)
    desk.buy("EURUSD", 0.1)
    move(package, (1.1010, 1.1011))
    desk.buy("EURUSD", 0.1)
    position = desk._session.positions()[0]
    assert (position.volume, position.price_open) == (pytest.approx(0.2), pytest.approx(1.1001))
    desk.sell("EURUSD", 0.05)
    assert desk._session.positions()[0].volume == pytest.approx(0.15)
    desk.sell("EURUSD", 0.25)
    turned = desk._session.positions()[0]
    assert (turned.type, turned.volume, turned.price_open) == (1, pytest.approx(0.1), 1.1010)
    assert desk._session.account().balance == pytest.approx(10_000 + 0.2 * 100_000 * (1.1010 - 1.1001))
    assert package.account.deals[-1].entry == 2
    with pytest.raises(returns.InvalidRequestError):
        desk.close_by(turned.ticket, turned.ticket)


def test_the_stop_out_closes_the_worst_first():
    package = terminal(balance=300.0)
    desk = desk_of(package)
    desk.buy("EURUSD", 0.1)
    desk.buy("EURUSD", 0.05)
    move(package, (1.0840, 1.0841))
    assert [p.volume for p in desk._session.positions()] == [0.05]
    assert package.account.deals[-1].reason == 6


@pytest.mark.parametrize(
    ("symbol", "change", "error"),
    [
        ({}, {"volume": 0.001}, returns.InvalidVolumeError),
        ({}, {"volume": 0.015}, returns.InvalidVolumeError),
        ({}, {"sl": 1.2}, returns.InvalidStopsError),
        ({"trade_stops_level": 100}, {"sl": 1.0985}, returns.InvalidStopsError),
        ({}, {"type_filling": 1}, returns.InvalidFillingError),
        ({}, {"type": 2}, returns.InvalidOrderError),
        ({}, {"action": 99}, returns.InvalidRequestError),
        ({}, {"position": 5}, returns.PositionClosedError),
        ({"trade_mode": 0}, {}, returns.TradeDisabledError),
        ({"trade_mode": 2}, {}, returns.ShortOnlyError),
        ({"trade_mode": 1}, {"type": 1}, returns.LongOnlyError),
        ({"trade_mode": 3}, {}, returns.CloseOnlyError),
        ({"trade_exemode": 1}, {"price": 1.2}, returns.RequoteError),
        ({}, {"volume": 200.0}, returns.NoMoneyError),
    ],
)
def test_what_the_server_refuses_is_named(symbol, change, error):
    package = terminal(symbol=symbol)
    desk = desk_of(package)
    request = {**desk.market("EURUSD", BUY, 0.1), **change}
    for act in (desk.check, desk.send):
        with pytest.raises(error) as caught:
            act(request)
        assert caught.value.code == error.code
    assert "order_send" not in package.calls


def test_a_request_the_terminal_cannot_read():
    desk = desk_of(terminal())
    request = desk.market("EURUSD", BUY, 0.1)
    with pytest.raises(ConfigurationError, match='Invalid "volume" argument'):
        desk.send({**request, "volume": "0.1"})
    with pytest.raises(ConfigurationError, match='Invalid "size" argument'):
        desk.send({**request, "size": 1})


@pytest.mark.parametrize("volume", [0.0, -0.1, 0.013, 1e9, float("nan"), float("inf")])
def test_volumes_are_never_rounded(volume):
    with pytest.raises(ConfigurationError, match="volume"):
        desk_of(terminal()).market("EURUSD", BUY, volume)


def test_other_arguments_that_are_refused_here():
    desk = desk_of(terminal())
    with pytest.raises(ConfigurationError, match="neither BUY nor SELL"):
        desk.market("EURUSD", OrderType.BUY_LIMIT, 0.1)
    with pytest.raises(ConfigurationError, match="no limit or stop"):
        desk.pending("EURUSD", BUY, 0.1, 1.0)
    with pytest.raises(ConfigurationError, match="31"):
        desk.market("EURUSD", BUY, 0.1, comment="x" * 32)
    with pytest.raises(ConfigurationError, match="sl nan"):
        desk.market("EURUSD", BUY, 0.1, sl=float("nan"))


def test_a_lost_answer_is_not_sent_again():
    package = terminal()
    desk = desk_of(package)
    request = desk.market("EURUSD", BUY, 0.1)
    send, sent = package.order_send, []

    def executed_but_unanswered(given):
        sent.append(given)
        send(given)
        package.fail(-10002, "the answer was lost")
        package._take_fault("order_send")

    package.order_send = executed_but_unanswered
    with pytest.raises(AnswerLostError, match="order_send") as caught:
        desk.send(request)
    assert not isinstance(caught.value, TemporaryError), "what retries by class must not send it twice"
    assert len(sent) == 1
    assert len(desk._session.positions()) == 1, "the session is back, and shows what stands"


def test_a_terminal_that_forbids_trading():
    package = terminal()
    package._trade_allowed = False
    with pytest.raises(returns.TerminalDisablesAutoTradingError):
        desk_of(package).buy("EURUSD", 0.1)


def test_filling_follows_the_instrument():
    kinds = {3: 0, 1: 0, 2: 1, 0: 2}
    for mask, wanted in kinds.items():
        desk = desk_of(terminal(symbol={"filling_mode": mask}))
        assert desk.market("EURUSD", BUY, 0.1)["type_filling"] == wanted


def test_every_return_code_has_its_exception(test_data):
    text = (test_data / "api/mt5/MT5_API.md").read_text()
    codes = {int(code) for code in re.findall(r"TRADE_RETCODE_\w+=(\d+)", text)}
    assert codes == set(TRADE_ERRORS_BY_CODE) | set(DONE_CODES)
    documented = {int(code): name for name, code in re.findall(r"TRADE_RETCODE_(\w+)=(\d+)", text)}
    for code, kind in TRADE_ERRORS_BY_CODE.items():
        assert (kind.__doc__ or "").startswith(f"TRADE_RETCODE_{documented[code]}:")


def test_return_codes_by_branch():
    assert len(set(TRADE_ERRORS_BY_CODE.values())) == len(TRADE_ERRORS_BY_CODE) == 37
    for code, kind in TRADE_ERRORS_BY_CODE.items():
        error = trade_error(code, "text", "order_send")
        assert type(error) is kind
        assert isinstance(error, TapelineError)
    for unknown_outcome in (10012, 10031):
        assert not isinstance(trade_error(unknown_outcome, "", "order_send"), TemporaryError)
    assert trade_error(12345, "?", "order_send").code == 12345
    assert trade_error(10012, "", "order_send").hint == trade_error(10031, "", "order_send").hint
    assert pair("EURUSD").name == "EURUSD"
