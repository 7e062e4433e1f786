#!/bin/sh
# Serve the API. exec: signals reach its main process. ops.tied: its workers end with it.
set -eu
exec python -m ops.launch python -m ops.tied project.front wsgi:app
