"""Ask the API whether it is ready: python -m ops.probe; the exit status tells."""

import http.client
import os
import sys

HEALTH_PATH = "/health/ready"
ANSWER_SECONDS = 5


def problem(host: str, port: int) -> str | None:
    """Return why the API at this address is not ready, or None if it is."""
    # No proxy of the environment may come in between.
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", HEALTH_PATH)
        answer = connection.getresponse()
        body = answer.read(2000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return f"{HEALTH_PATH} does not answer: {error}."
    finally:
        connection.close()
    return None if answer.status == 200 else f"{HEALTH_PATH} answers {answer.status}: {body}"


if __name__ == "__main__":
    sys.exit(problem("127.0.0.1", int(os.environ.get("PORT") or 8000)))
