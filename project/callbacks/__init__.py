"""Telling others what happened: signed callbacks, retried and replayed, never lost."""
