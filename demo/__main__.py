"""Customers' lives in seconds, against the running copy: `make run` first, then `make demo`.

Everything that is shown is also asserted: if it is not so, the demo says what and ends with 1.
"""

import sys

from demo.billing import BillingStory
from demo.clicks import ClickStory
from demo.mobile import MobileStory
from demo.story import DemoFailed, console
from demo.weather import WeatherStory
from project.config.environment import load_environment


def main() -> int:
    """Tell every story and return the exit code."""
    load_environment()
    try:
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


if __name__ == "__main__":
    sys.exit(main())
