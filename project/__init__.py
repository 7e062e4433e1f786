"""Perennial: subscriptions from the first click to every renewal, retry and callback."""
