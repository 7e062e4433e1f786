"""Adapters to the stores that sold the subscriptions."""
