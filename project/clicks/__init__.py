"""Clicks: taken by webhook, counted once, reported by offer and source, handed to finance."""

from flask import Flask

from project.clicks import models

__all__ = ["models"]


def register(_app: Flask) -> None:
    """Serve the routes of the clicks."""
