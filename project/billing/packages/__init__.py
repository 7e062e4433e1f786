"""Packages: what can be subscribed to."""
