"""The outside world as one small HTTP server, with faults on demand."""
