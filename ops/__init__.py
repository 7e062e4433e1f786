"""Starts and watches everything: embedded servers, supervisord, settings of a running copy."""
