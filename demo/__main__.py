"""Customers' lives in seconds, against the running copy: `make run` first, then `make demo`.

Everything that is shown is also asserted: if it is not so, the demo says what and ends with 1.
"""

import argparse
import sys

from demo.billing import BillingStory
from demo.clicks import ClickStory
from demo.mobile import MobileStory
from demo.story import DemoFailed, Story, console
from demo.weather import WeatherStory
from project.config import load_environment

MOST_SUBSCRIBERS = 1_000
"""More are billed more than 300,000 times in the year that the demo walks through."""


def main() -> int:
    """Tell every story and return the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description="Play through the product.")
    parser.add_argument("--anyway", action="store_true", help="even if it will take long")
    anyway = parser.parse_args().anyway
    load_environment()
    try:
        crowd = _subscribers()
        if crowd > MOST_SUBSCRIBERS and not anyway:
            console.print(
                f"[bold red]This copy has {crowd:,} forecast subscribers[/], and the demo walks "
                "through a year in which each is billed every day. Start a copy without them: "
                'VAR_DIR=var/demo make run. Or let it take long: make demo ARGS="--anyway"'
            )
            return 1
        MobileStory().run()
        BillingStory().run()
        ClickStory().run()
        WeatherStory().run()
    except DemoFailed as failure:
        console.print(f"\n[bold red]The demo failed:[/] {failure}")
        return 1
    except OSError as error:
        console.print(f"[bold red]No running copy was found[/] ({error}). Start one: make run")
        return 1
    console.print("\n[bold green]All of it was as it should be.[/]")
    return 0


def _subscribers() -> int:
    listed = Story().call("GET", "/api/subscribers?state=active&limit=1", want=200)
    return int(listed["pagination"]["total"])


if __name__ == "__main__":
    sys.exit(main())
