"""Group commit: what is acknowledged is written, failures are tried again, and nobody is forgotten."""

from __future__ import annotations

import threading
from concurrent.futures import wait

import pytest

from tapeline.alerts.records import Commit
from tapeline.alerts.store.group_commit import GroupCommit
from tapeline.core.errors import ConfigurationError, DataError, TemporaryError
from tests.alerts.store.samples import make_commit, make_delivery, make_firing


class Fake:
    """A store whose disk fails when it is told to, and waits when it is told to."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.failing = 0
        self.poison: int | None = None
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def commit_all(self, commits):
        self.entered.set()
        assert self.open.wait(30)
        numbers = [commit.positions["n"] for commit in commits]
        if self.failing:
            self.failing -= 1
            raise TemporaryError("the disk is full")
        if self.poison in numbers:
            raise DataError(f"{self.poison} cannot be stored")
        self.groups.append(numbers)
        return tuple(frozenset({str(number)}) for number in numbers)


def numbered(number: int) -> Commit:
    return Commit(positions={"n": number})


def test_what_comes_while_the_disk_is_busy_is_written_together_and_in_order() -> None:
    fake = Fake()
    fake.open.clear()
    with GroupCommit(fake, gather=0) as group:
        first = group.submit(numbered(0))
        assert fake.entered.wait(30)
        others = [group.submit(numbered(n)) for n in range(1, 50)]
        assert not first.done()
        fake.open.set()
        assert [one.result(30) for one in (first, *others)] == [{str(n)} for n in range(50)]
        assert group.counts().commits == 50
    assert fake.groups == [[0], list(range(1, 50))]


def test_commits_of_a_few_milliseconds_are_gathered() -> None:
    fake = Fake()
    with GroupCommit(fake, gather=1.0) as group:
        for n in range(3):
            group.submit(numbered(n))
    # Closing ends the gathering at once.
    assert fake.groups == [[0, 1, 2]]


def test_a_group_does_not_wait_once_it_is_full() -> None:
    fake = Fake()
    with GroupCommit(fake, gather=1.0) as group:
        done = [group.submit(numbered(n)) for n in range(1_000)]
        finished, _ = wait(done, timeout=0.9)
        assert len(finished) == 1_000


def test_a_failing_disk_is_tried_again_and_nothing_is_lost_or_acknowledged_before() -> None:
    fake, told = Fake(), []
    fake.failing = 2
    with GroupCommit(fake, gather=0, on_problem=told.append) as group:
        done = [group.submit(numbered(n)) for n in range(5)]
        assert [one.result(30) for one in done] == [{str(n)} for n in range(5)]
        assert (group.counts().failures, group.counts().problem) == (2, "")
    assert [n for numbers in fake.groups for n in numbers] == list(range(5))
    assert [str(one) for one in told] == ["the disk is full"] * 2


def test_a_commit_that_can_never_be_written_fails_alone() -> None:
    fake = Fake()
    fake.poison = 3
    fake.open.clear()
    with GroupCommit(fake, gather=0) as group:
        done = [group.submit(numbered(n)) for n in range(6)]
        fake.open.set()
        for n, one in enumerate(done):
            if n == 3:
                with pytest.raises(DataError, match="3 cannot be stored"):
                    one.result(30)
            else:
                assert one.result(30) == {str(n)}
    assert sorted(n for numbers in fake.groups for n in numbers) == [0, 1, 2, 4, 5]


def test_whoever_submits_waits_where_the_queue_is_full() -> None:
    fake = Fake()
    fake.open.clear()
    with GroupCommit(fake, gather=0, capacity=2) as group:
        group.submit(numbered(0))
        assert fake.entered.wait(30)
        kept = [group.submit(numbered(1)), group.submit(numbered(2))]
        with pytest.raises(TemporaryError, match="2 commits wait"):
            group.submit(numbered(3), timeout=0.01)
        late = threading.Thread(target=lambda: kept.append(group.submit(numbered(4))))
        late.start()
        fake.open.set()
        late.join(30)
        assert [one.result(30) for one in kept] == [{"1"}, {"2"}, {"4"}]
    assert [n for numbers in fake.groups for n in numbers] == [0, 1, 2, 4]


def test_closing_writes_what_waits_and_takes_no_more() -> None:
    fake = Fake()
    group = GroupCommit(fake, gather=1.0)
    done = [group.submit(numbered(n)) for n in range(3)]
    group.close()
    group.close()
    assert all(one.done() for one in done)
    with pytest.raises(TemporaryError, match="closed"):
        group.submit(numbered(9))


def test_a_store_that_fails_for_ever_is_given_up_when_it_is_closed_with_a_timeout() -> None:
    fake = Fake()
    fake.failing = 10**9
    group = GroupCommit(fake, gather=0)
    done = [group.submit(numbered(n)) for n in range(3)]
    group.close(timeout=0.05)
    for one in done:
        with pytest.raises(TemporaryError, match="disk is full"):
            one.result(0)


def test_one_that_was_cancelled_is_not_written_and_harms_nobody() -> None:
    fake = Fake()
    fake.open.clear()
    with GroupCommit(fake, gather=0) as group:
        group.submit(numbered(0))
        assert fake.entered.wait(30)
        dropped, kept = group.submit(numbered(1)), group.submit(numbered(2))
        assert dropped.cancel()
        fake.open.set()
        assert kept.result(30) == {"2"}
    assert fake.groups == [[0], [2]]


def test_callbacks_that_fail_do_not_end_it() -> None:
    fake = Fake()
    fake.failing = 1

    def fail(_: object) -> None:
        raise RuntimeError("on purpose")

    with GroupCommit(fake, gather=0, on_problem=fail) as group:
        group.submit(numbered(0)).add_done_callback(fail)
        assert group.submit(numbered(1)).result(30) == {"1"}


@pytest.mark.parametrize("wrong", [{"gather": -1}, {"gather": 2}, {"capacity": 0}])
def test_settings_have_bounds(wrong) -> None:
    with pytest.raises(ConfigurationError):
        GroupCommit(Fake(), **wrong)


def test_many_threads_on_a_real_store(store) -> None:
    with GroupCommit(store) as group:
        done: list = []

        def work(begin: int) -> None:
            done.extend(group.submit(make_commit(ts)) for ts in range(begin, begin + 40))

        threads = [threading.Thread(target=work, args=(begin,)) for begin in (0, 20, 40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        new = [id for one in done for id in one.result(30)]
    # 0..79, of which each of 20..59 was submitted twice.
    assert len(new) == len(set(new)) == store.count_firings() == 80
    assert group.counts().groups < 120


def test_a_value_that_the_database_refuses_fails_alone(store) -> None:
    firing = make_firing(2)
    with GroupCommit(store, gather=0.2) as group:
        good = group.submit(make_commit(1))
        bad = group.submit(Commit((firing,), deliveries=(make_delivery(firing, created_at=2**70),)))
        also = group.submit(make_commit(3))
        assert len(good.result(30)) == len(also.result(30)) == 1
        with pytest.raises(DataError):
            bad.result(30)
    assert [one.firing.ts for one in store.firings_after(0)] == [1, 3]
