"""Devices and their client-tokens."""
