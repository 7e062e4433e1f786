"""A day's clicks, handed to the finance service."""
