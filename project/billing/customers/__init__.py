"""Customers: whoever is billed."""
