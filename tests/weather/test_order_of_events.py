"""What happened to a number counts by its sender's time, in whatever order it arrives."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from project.core import clock as product_clock
from project.core.db.transaction import transaction
from project.weather import tasks
from project.weather.imports import runner
from project.weather.models import Subscriber
from project.weather.states import Plan, RowOutcome, SubscriberState, TaskKind
from project.weather.subscribers import changes, service
from project.weather.subscribers.changes import (
    Addition,
    Cancellation,
    ChangedMeanwhileError,
    Event,
    Relocation,
)
from tests.time_machine import Clock
from tests.weather.world import (
    ADDITIONS,
    CANCELLATIONS,
    ISTANBUL,
    MOSCOW,
    UPDATES,
    Operator,
    counts,
    lines,
)

ANN, BEN, CEM = "+79031110001", "+79031110002", "+905424440003"
NUMBERS = (ANN, BEN, CEM)
START = datetime(2026, 3, 1, 9, tzinfo=UTC)
PLACES = (MOSCOW, ISTANBUL, (10.0, 20.0))


def at(hour: float) -> str:
    return f"{START + timedelta(hours=hour):%Y-%m-%dT%H:%M:%SZ}"


def added(
    hour: float, number: str = ANN, plan: str = "1", place: tuple[float, float] = MOSCOW
) -> str:
    return f"{at(hour)},{number},{plan},{place[0]},{place[1]}"


def left(hour: float, number: str = ANN) -> str:
    return f"{at(hour)},{number}"


def moved(hour: float, place: tuple[float, float], number: str = ANN) -> str:
    return f"{at(hour)},{number},{place[0]},{place[1]}"


@dataclass(frozen=True)
class Told:
    """An event as a row of a file."""

    kind: str
    hour: int
    number: str
    plan: str
    place: tuple[float, float]

    def row(self) -> str:
        if self.kind == "additions":
            return added(self.hour, self.number, self.plan, self.place)
        if self.kind == "updates":
            return moved(self.hour, self.place, self.number)
        return left(self.hour, self.number)


HEADERS = {"additions": ADDITIONS, "cancellations": CANCELLATIONS, "updates": UPDATES}
EVENTS = st.lists(
    st.builds(
        Told,
        st.sampled_from(list(HEADERS)),
        st.integers(0, 30),
        st.sampled_from(NUMBERS),
        st.sampled_from(["daily", "2", "0"]),
        st.sampled_from(PLACES),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda one: (one.number, one.hour),
)


def expected(events: Sequence[Told]) -> dict[str, tuple[str, tuple[float, float]]]:
    """Return who takes which plan where: what the newest events say, and nothing else."""
    found = {}
    for number in NUMBERS:
        mine = sorted((one for one in events if one.number == number), key=lambda one: one.hour)
        plans = [one for one in mine if one.kind != "updates"]
        places = [
            one for one in mine
            if one.kind == "updates" or (one.kind == "additions" and one.plan != "0")
        ]  # fmt: skip
        if plans and plans[-1].kind == "additions" and plans[-1].plan != "0":
            plan = "weekly" if plans[-1].plan == "2" else "daily"
            found[number] = (plan, places[-1].place)
    return found


def active() -> dict[str, tuple[str, tuple[float, float]]]:
    with transaction(read_only=True) as session:
        rows = session.query(Subscriber).filter_by(state=SubscriberState.ACTIVE)
        return {one.msisdn: (one.plan, (one.lat, one.lon)) for one in rows}


def upload(kind: str, rows: Sequence[str]) -> None:
    with transaction():
        tasks.store_file(TaskKind(kind), None, [lines(HEADERS[kind], *rows).encode()])


def forget_everything() -> None:
    with transaction() as session:
        for table in (changes.subscribers, changes.absents):
            session.execute(table.delete())


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events=EVENTS, data=st.data())
def test_any_order_of_rows_files_and_retries_ends_the_same(
    app: Flask, events: list[Told], data: st.DataObject
) -> None:
    forget_everything()
    order = data.draw(st.permutations(events))
    again = data.draw(st.lists(st.sampled_from(events), max_size=4))
    files: list[tuple[str, list[str]]] = []
    for one in [*order, *again]:
        # A row joins the file before it, or begins a new one.
        if files and files[-1][0] == one.kind and data.draw(st.booleans()):
            files[-1][1].append(one.row())
        else:
            files.append((one.kind, [one.row()]))

    for kind, rows in files:
        upload(kind, rows)
        runner.run()

    assert active() == expected(events)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(["1", "2", "0", "left"]), st.sampled_from(PLACES)),
        min_size=2,
        max_size=4,
    ),
    data=st.data(),
)
def test_files_that_say_different_things_of_one_moment_end_the_same_in_any_order(
    app: Flask, kinds: list[tuple[str, tuple[float, float]]], data: st.DataObject
) -> None:
    ends = []
    for order in (kinds, data.draw(st.permutations(kinds))):
        forget_everything()
        for plan, place in order:
            kind = "cancellations" if plan == "left" else "additions"
            upload(kind, [left(1) if plan == "left" else added(1, plan=plan, place=place)])
            runner.run()
        ends.append(active())

    assert ends[0] == ends[1]
    is_left = any(plan in ("0", "left") for plan, _ in kinds)
    assert (ends[0] == {}) == is_left


class TestWithinAFile:
    def test_the_newest_row_is_taken_though_it_comes_first(self, desk: Operator) -> None:
        rows = (added(50, plan="0"), added(2, plan="1"), added(20, plan="2"))

        task = desk.imported("additions", lines(ADDITIONS, added(1, BEN), *rows))

        assert desk.shown(ANN) is None
        assert desk.shown(BEN)["state"] == "active"
        assert desk.notes(task["id"]) == [4, 5]

    @pytest.mark.parametrize("bad", ["24.11.2026,{0}", "{1},{0},x", "2099-01-01,{0}"])
    def test_a_bad_row_wins_over_no_good_one(self, desk: Operator, bad: str) -> None:
        desk.imported("additions", lines(ADDITIONS, added(1)))

        task = desk.imported(
            "cancellations", lines(CANCELLATIONS, left(3), bad.format(ANN, at(4)), left(2))
        )

        assert desk.shown(ANN)["state"] == "canceled"
        assert counts(task) == (0, 1, 1, 1)
        assert [row for row, _, _ in desk.errors(task["id"])] == [3]
        assert desk.notes(task["id"]) == [4]

    def test_of_equally_new_rows_the_last_is_taken(self, desk: Operator) -> None:
        desk.imported(
            "additions", lines(ADDITIONS, added(1), added(1, plan="0"), added(1, plan="2"))
        )

        assert desk.shown(ANN)["plan"] == "weekly"


class TestBetweenFiles:
    def test_a_cancellation_that_comes_before_its_addition_counts(self, desk: Operator) -> None:
        desk.imported("cancellations", lines(CANCELLATIONS, left(19)))
        task = desk.imported("additions", lines(ADDITIONS, added(18), added(18, BEN)))

        assert desk.shown(ANN) is None
        assert desk.shown(BEN)["state"] == "active"
        assert (counts(task), desk.notes(task["id"])) == ((1, 0, 1, 0), [2])

        desk.imported("additions", lines(ADDITIONS, added(20)))
        assert desk.shown(ANN)["state"] == "active"

    def test_a_move_that_comes_before_its_addition_counts(self, desk: Operator) -> None:
        desk.forecast(1, MOSCOW)
        desk.forecast(2, ISTANBUL)
        desk.imported("updates", lines(UPDATES, moved(19, ISTANBUL)))

        desk.imported("additions", lines(ADDITIONS, added(18, place=MOSCOW)))

        shown = desk.shown(ANN)
        assert (shown["state"], shown["lat"]) == ("active", ISTANBUL[0])
        assert (shown["forecast"]["gid"], shown["zone"]) == (2, "Europe/Istanbul")

    def test_what_is_older_is_noted_with_what_is_known(self, desk: Operator) -> None:
        desk.imported("additions", lines(ADDITIONS, added(20)))

        late = desk.imported("cancellations", lines(CANCELLATIONS, left(19)))

        assert desk.shown(ANN)["state"] == "active"
        assert counts(late) == (0, 0, 1, 0)
        told = desk.client.get(f"/api/tasks/{late['id']}/errors.csv").data.decode()
        assert f"Not newer than what is known since {at(20)}" in told

    def test_an_older_addition_still_brings_a_place_that_is_newer(self, desk: Operator) -> None:
        desk.imported("additions", lines(ADDITIONS, added(1, place=MOSCOW)))
        desk.imported("cancellations", lines(CANCELLATIONS, left(9)))

        task = desk.imported("additions", lines(ADDITIONS, added(5, place=ISTANBUL)))

        assert (desk.shown(ANN)["state"], desk.shown(ANN)["lat"]) == ("canceled", ISTANBUL[0])
        assert (counts(task), desk.notes(task["id"])) == ((0, 1, 0, 0), [2])

    def test_a_file_run_again_after_others_changes_nothing(self, desk: Operator) -> None:
        first = lines(ADDITIONS, added(1), added(2, BEN, "2"))
        desk.imported("additions", first)
        desk.imported("cancellations", lines(CANCELLATIONS, left(5)))
        desk.imported("updates", lines(UPDATES, moved(6, ISTANBUL, BEN)))
        before = active()

        task = desk.imported("additions", first)

        assert active() == before == {BEN: ("weekly", ISTANBUL)}
        assert counts(task) == (0, 0, 2, 0)

    def test_a_file_run_again_brings_nobody_back_whom_the_carrier_refused(
        self, desk: Operator
    ) -> None:
        content = lines(ADDITIONS, added(1))
        desk.imported("additions", content)
        with transaction() as session:
            session.execute(
                update(Subscriber).values(state="canceled", canceled_at=product_clock.now())
            )

        desk.imported("additions", content)

        assert desk.shown(ANN)["state"] == "canceled"


class TestByTheApi:
    """What is said by the API happens when it is said."""

    @pytest.mark.parametrize("way", ["PATCH", "DELETE"])
    def test_who_left_is_not_brought_back_by_what_is_older(self, desk: Operator, way: str) -> None:
        desk.imported("additions", lines(ADDITIONS, added(1)))
        path = f"/api/subscribers/{ANN}"
        if way == "DELETE":
            assert desk.client.delete(path).status_code == 204
        else:
            desk.client.patch(path, json={"state": "canceled"})

        desk.imported("additions", lines(ADDITIONS, added(2, plan="2")))

        shown = desk.shown(ANN)
        assert shown is None if way == "DELETE" else shown["state"] == "canceled"

    def test_who_was_added_is_not_canceled_by_what_is_older(self, desk: Operator) -> None:
        desk.subscriber(ANN)

        desk.imported("cancellations", lines(CANCELLATIONS, left(1)))

        assert desk.shown(ANN)["state"] == "active"

    def test_who_is_added_is_where_the_api_says(self, desk: Operator) -> None:
        soon = f"{product_clock.now() + timedelta(hours=9):%Y-%m-%dT%H:%M:%SZ}"
        desk.imported("updates", lines(UPDATES, f"{soon},{ANN},1,1"))

        assert desk.subscriber(ANN, ISTANBUL)["lat"] == ISTANBUL[0]

    def test_a_change_of_the_plan_says_nothing_of_the_place(self, desk: Operator) -> None:
        desk.imported("additions", lines(ADDITIONS, added(1, place=MOSCOW)))
        desk.client.patch(f"/api/subscribers/{ANN}", json={"plan": "weekly"})

        desk.imported("updates", lines(UPDATES, moved(2, ISTANBUL)))

        assert (desk.shown(ANN)["plan"], desk.shown(ANN)["lat"]) == ("weekly", ISTANBUL[0])

    def test_a_move_says_nothing_of_the_plan(self, desk: Operator) -> None:
        desk.imported("additions", lines(ADDITIONS, added(1)))
        desk.client.patch(f"/api/subscribers/{ANN}", json={"lat": 1.0})

        desk.imported("cancellations", lines(CANCELLATIONS, left(2)))

        assert (desk.shown(ANN)["state"], desk.shown(ANN)["lat"]) == ("canceled", 1.0)

    def test_a_sender_whose_clock_is_ahead_does_not_freeze_a_number(
        self, desk: Operator, clock: Clock
    ) -> None:
        ahead = f"{product_clock.now() + timedelta(hours=20):%Y-%m-%dT%H:%M:%SZ}"
        content = lines(ADDITIONS, f"{ahead},{ANN},1,1,1")
        desk.imported("additions", content)
        path = f"/api/subscribers/{ANN}"

        assert desk.client.patch(path, json={"state": "canceled"}).status_code == 200
        desk.imported("additions", content)
        assert desk.shown(ANN)["state"] == "canceled"
        assert desk.client.delete(path).status_code == 204
        desk.imported("additions", content)
        assert desk.shown(ANN) is None
        desk.subscriber(ANN)

    def test_a_time_far_ahead_is_a_slip_of_the_pen(self, desk: Operator) -> None:
        task = desk.imported(
            "additions", lines(ADDITIONS, f"2062-01-01,{ANN},1,1,1", added(1, BEN))
        )

        assert desk.errors(task["id"]) == [(2, "ts", "2062-01-01")]
        assert desk.shown(ANN) is None


class TestTwoAtOnce:
    """Two workers, of whom neither sees what the other has not committed yet."""

    @contextmanager
    def _meanwhile(self, app: Flask, change: Callable[[], object]) -> Iterator[Callable[[], None]]:
        """Have another thread change something, begun when the present one says so."""
        done = threading.Event()

        def work() -> None:
            with app.app_context():
                while True:
                    try:
                        with transaction():
                            change()
                    except ChangedMeanwhileError:
                        continue
                    break
            done.set()

        thread = threading.Thread(target=work)

        def start() -> None:
            thread.start()
            # Unless it waits for us it is done long before.
            done.wait(0.5)

        yield start
        thread.join(30)
        assert done.is_set()

    @pytest.mark.parametrize("addition_first", [True, False])
    def test_find_what_the_other_says_of_a_new_number(
        self, app: Flask, addition_first: bool
    ) -> None:
        addition = Addition(ANN, Plan.DAILY, 1, 1, None, START)
        others: list[Event] = [
            Cancellation(ANN, START + timedelta(hours=1)),
            Relocation(BEN, *ISTANBUL, None, START + timedelta(hours=1)),
        ]
        additions: list[Event] = [addition, Addition(BEN, Plan.DAILY, 2, 2, None, START)]
        first, second = (additions, others) if addition_first else (others, additions)

        with self._meanwhile(app, lambda: changes.apply_events(second)) as start, transaction():
            changes.apply_events(first)
            start()

        assert active() == {BEN: ("daily", ISTANBUL)}

    def test_adding_the_same_number_the_newer_wins(self, app: Flask) -> None:
        newer: list[Event] = [Addition(ANN, Plan.WEEKLY, 1, 1, None, START + timedelta(hours=1))]
        older: list[Event] = [Addition(ANN, Plan.DAILY, 2, 2, None, START)]

        with self._meanwhile(app, lambda: changes.apply_events(older)) as start, transaction():
            assert [one.outcome for one in changes.apply_events(newer)] == [RowOutcome.CREATED]
            start()

        assert active() == {ANN: ("weekly", (1.0, 1.0))}

    def test_a_move_by_the_api_keeps_the_plan_that_a_file_says_meanwhile(
        self, app: Flask, desk: Operator
    ) -> None:
        desk.subscriber(ANN, MOSCOW, plan="daily")
        soon = product_clock.now() + timedelta(hours=1)

        with (
            self._meanwhile(
                app, lambda: service.change_subscriber(ANN, {"lat": 1.0, "lon": 2.0})
            ) as start,
            transaction(),
        ):
            changes.apply_events([Addition(ANN, Plan.WEEKLY, 3, 3, None, soon)])
            start()

        assert active() == {ANN: ("weekly", (1.0, 2.0))}
