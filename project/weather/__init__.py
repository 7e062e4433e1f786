"""Forecast SMS: forecasts, subscribers by CSV, carrier billing, one message a day."""

from flask import Flask

from project.weather import models

__all__ = ["models"]


def register(_app: Flask) -> None:
    """Serve the routes of the forecast SMS."""
