"""Subscriptions: a customer's package and its periods."""
