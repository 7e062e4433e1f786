"""Runs the benchmarks: python -m benchmarks [--only NAME] [--scale 0.1] [--json FILE]."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import (
    billing,
    callbacks,
    checks,
    clicks,
    imports,
    messages,
    purchases,
    reports,
    wrk,
)
from benchmarks.load import LoadError
from benchmarks.report import Row, as_json, failed, print_table
from benchmarks.rig import BenchmarkError, Options, Rig, running_rig

MEASUREMENTS: Mapping[str, Callable[[Rig], list[Row]]] = {
    "check": checks.measure,
    "company-check": checks.measure_companies,
    "purchase-run": purchases.measure_against_peer,
    "callbacks": callbacks.measure_against_peers,
    "callbacks-slow": callbacks.measure_slow_endpoints,
    "hanging": callbacks.measure_hanging,
    "million": purchases.measure_sizes,
    "autopayments": billing.measure_against_peer,
    "autopayments-million": billing.measure_sizes,
    "match-successful": billing.measure_matching,
    "clicks": clicks.measure_singles,
    "clicks-node": clicks.measure_against_node,
    "click-batches": clicks.measure_batches,
    "click-drain": clicks.measure_drain,
    "click-visibility": clicks.measure_visibility,
    "reports": reports.measure,
    "messages": messages.measure_against_peer,
    "messages-million": messages.measure_sizes,
    "import": imports.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; return 1 if a target was missed."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.wrk and not wrk.is_there():
        parser.error("wrk is not installed")
    options = Options(
        scale=parsed.scale,
        rounds=parsed.rounds,
        use_wrk=parsed.wrk,
        wait_seconds=parsed.wait,
    )
    rows: list[Row] = []
    with running_rig(options) as rig:
        for name in parsed.only or MEASUREMENTS:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            rows += _measure(rig, name)
    notes = _notes(options)
    print_table(rows, title="Perennial's benchmarks", notes=notes)
    if parsed.json:
        parsed.json.write_text(as_json(rows, notes=notes, options=asdict(options)) + "\n")
    return 1 if any(row.met is False for row in rows) else 0


def _measure(rig: Rig, name: str) -> list[Row]:
    """Return the rows, or one that says why there are none: the others are worth having."""
    rig.machine.begin()
    try:
        rows = MEASUREMENTS[name](rig)
    except (BenchmarkError, LoadError) as error:
        rows = [failed(name, error)]
    share = rig.machine.foreign_share()
    return [replace(row, foreign_share=share) for row in rows]


def _notes(options: Options) -> list[str]:
    notes = [
        "Everything runs on this one machine: the copy with its 8 workers, Postgres (fsync on), "
        "Valkey, the simulator that plays the stores and the endpoints, and what measures.",
        f"Figures are medians of {options.rounds} rounds, ours and the other in turn, with the "
        "range of the rounds below; in the row of the large table the small one runs before "
        "and after it.",
        "Slow peers run over fewer rows, and the rates are compared. Each peer has as many calls "
        "under way as ours, over kept connections. Queues that others wrote hold their jobs before "
        "the clock starts, which runs from the first delivery to the last; jobs on RQ are queued "
        "in bulk, and then their clock starts; ours starts when the run is woken.",
        "The last column is what others took of this machine meanwhile; above 15 % the ratio tells "
        "little, as ours and the peer suffer differently.",
        "In the first row of purchase-run neither side sends the callbacks it writes.",
    ]
    if options.scale != 1:
        notes.append(f"Sizes are scaled by {options.scale:g}: a quick look, not a verdict.")
    return notes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Ours against a peer or a ceiling, in one run on one machine.",
    )
    parser.add_argument(
        "--only", action="append", choices=list(MEASUREMENTS), help="measure this (repeatable)"
    )
    parser.add_argument(
        "--scale", type=_scale, default=1.0, help="factor on all sizes, such as 0.1"
    )
    parser.add_argument("--rounds", type=_rounds, default=3, help="rounds of each (%(default)s)")
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=120.0,
        metavar="SECONDS",
        help="how long to wait, in all, for others to leave the machine alone (%(default)g)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--wrk", action="store_true", help="use wrk for HTTP load, not our own generator"
    )
    return parser


def _scale(given: str) -> float:
    scale = float(given)
    if not 0.001 <= scale <= 10:
        raise argparse.ArgumentTypeError("the scale must be from 0.001 to 10")
    return scale


def _seconds(given: str) -> float:
    seconds = float(given)
    if not 0 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("the wait must be from 0 to 3600 seconds")
    return seconds


def _rounds(given: str) -> int:
    rounds = int(given)
    if not 1 <= rounds <= 20:
        raise argparse.ArgumentTypeError("there must be from 1 to 20 rounds")
    return rounds


if __name__ == "__main__":
    sys.exit(main())
