"""The test clock in the words of tests."""

from datetime import datetime, timedelta

from project.core import clock


class Clock:
    """Moves the product's time, and the simulator's with it."""

    def advance(self, **by: float) -> datetime:
        """Move forward, by days=, hours=, minutes= or seconds=."""
        return clock.advance(timedelta(**by))

    def set_to(self, moment: datetime) -> datetime:
        """Go to a moment."""
        return clock.set_to(moment)

    def now(self) -> datetime:
        """Return the product's present moment."""
        return clock.now()
