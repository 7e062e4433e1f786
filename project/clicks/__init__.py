"""Clicks: taken by webhook, counted once, reported by offer and source, handed to finance."""
