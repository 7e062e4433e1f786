"""Making the next things while the last ones are being used: one thread, a few things ahead."""

from collections.abc import Generator, Iterator
from contextlib import suppress
from queue import Full
from queue import Queue as BoundedQueue
from threading import Event, Thread
from typing import TypeVar

from flask import current_app

AHEAD = 2
LOOK_SECONDS = 0.1

Item = TypeVar("Item")


class _End:
    """Comes after the last item, with what went wrong, if something did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """Give the items, which another thread makes meanwhile, in an application context of its own.

    An error in making them is raised here, after the items before it. Closing it ends the thread.
    """
    made: BoundedQueue[Item | _End] = BoundedQueue(AHEAD)
    stop = Event()
    app = current_app._get_current_object()  # type: ignore[attr-defined]

    def make() -> None:
        with app.app_context():
            end = _End()
            try:
                for item in items:
                    if not _put(made, item, stop):
                        return
            except BaseException as error:
                end = _End(error)
            _put(made, end, stop)

    thread = Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := made.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        thread.join()


def _put(made: "BoundedQueue[Item | _End]", item: Item | _End, stop: Event) -> bool:
    while not stop.is_set():
        with suppress(Full):
            made.put(item, timeout=LOOK_SECONDS)
            return True
    return False
