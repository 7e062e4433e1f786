"""The same load from wrk, for those who have it and trust it more: --wrk."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load import Load, LoadError

# wrk calls `request` for each request and `done` at the end, latencies in microseconds.
_SCRIPT = """
local bodies = {}
for line in io.lines(%s) do bodies[#bodies + 1] = line end
local at = 0
request = function()
  at = at %% #bodies + 1
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, bodies[at])
end
done = function(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read
                 + summary.errors.write + summary.errors.timeout
  print(string.format("figures %%d %%d %%d %%d %%d", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99), failed))
end
"""
_FIGURES = re.compile(r"^figures (\d+) (\d+) (\d+) (\d+) (\d+)$", re.M)


def is_there() -> bool:
    """Tell whether wrk is installed."""
    return shutil.which("wrk") is not None


def generate_load(
    url: str, bodies: Sequence[bytes], *, seconds: float, connections: int = 32
) -> Load:
    """POST the JSON bodies over and over for so long. Raises LoadError unless all succeed."""
    with tempfile.TemporaryDirectory(prefix="perennial-wrk-") as folder:
        lines = Path(folder) / "bodies"
        lines.write_bytes(b"\n".join(bodies))
        script = Path(folder) / "script.lua"
        script.write_text(_SCRIPT % json.dumps(str(lines)))
        options = ["-t1", f"-c{connections}", f"-d{round(seconds)}s", "-s", str(script)]
        answer = subprocess.run(["wrk", *options, url], capture_output=True, text=True, check=True)
    found = _FIGURES.search(answer.stdout)
    if found is None or int(found[5]):
        raise LoadError(f"wrk did not go through:\n{answer.stdout}{answer.stderr}")
    requests, duration, p50, p99 = (int(found[number]) for number in range(1, 5))
    return Load(requests / duration * 1_000_000, p50 / 1000, p99 / 1000)
