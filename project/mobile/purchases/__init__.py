"""Purchases: verified with the store, renewed or canceled by it."""
