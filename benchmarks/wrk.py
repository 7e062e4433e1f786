"""The same load from wrk, for those who have it and trust it more: --wrk."""

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.load import Asked, Load, LoadError

# wrk calls `request` for each request and `done` at the end, latencies in microseconds.
_SCRIPT = """
local bodies, tokens = {}, {}
for line in io.lines(%s) do
  local token, body = line:match("^(%%S*) (.*)$")
  bodies[#bodies + 1], tokens[#tokens + 1] = body, token
end
local at = 0
request = function()
  at = at %% #bodies + 1
  local headers = {["Content-Type"] = "application/json"}
  if tokens[at] ~= "" then headers["Authorization"] = "Bearer " .. tokens[at] end
  return wrk.format("POST", nil, headers, bodies[at])
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
    url: str, asked: Sequence[Asked], *, seconds: float, connections: int = 32
) -> Load:
    """Make the requests over and over for so long. Raises LoadError unless all succeed."""
    with tempfile.TemporaryDirectory(prefix="perennial-wrk-") as folder:
        lines = Path(folder) / "bodies"
        lines.write_bytes(b"\n".join(b"%s %s" % (one.token or b"", one.body) for one in asked))
        script = Path(folder) / "script.lua"
        script.write_text(_SCRIPT % json.dumps(str(lines)))
        options = ["-t1", f"-c{connections}", f"-d{round(seconds)}s", "-s", str(script)]
        answer = subprocess.run(["wrk", *options, url], capture_output=True, text=True, check=True)
    found = _FIGURES.search(answer.stdout)
    if found is None or int(found[5]):
        raise LoadError(f"wrk did not go through:\n{answer.stdout}{answer.stderr}")
    requests, duration, p50, p99 = (int(found[number]) for number in range(1, 5))
    return Load(requests / duration * 1_000_000, p50 / 1000, p99 / 1000)
