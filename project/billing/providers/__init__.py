"""Adapters to the providers that draw money."""
