#!/bin/sh
# Serve the API. exec: signals reach granian itself. ops.tied: its workers end with it.
#
# A request that finds every thread busy waits in granian. Connections are cheap there, so
# many may be open at once; the database is protected by the number of threads.
set -eu
exec python -m ops.tied granian wsgi:app \
    --interface wsgi \
    --http 1 \
    --no-ws \
    --host "${HOST:-127.0.0.1}" \
    --port "${PORT:-8000}" \
    --workers "${API_WORKERS:-2}" \
    --blocking-threads "${API_THREADS:-24}" \
    --backlog 2048 \
    --backpressure 1024 \
    --respawn-failed-workers \
    --respawn-interval 1 \
    --workers-kill-timeout 20 \
    --no-access-log \
    --log-level "${API_LOG_LEVEL:-info}"
