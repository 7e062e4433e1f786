"""Forecasts: points of the sphere, and which one is nearest."""
