"""Adapters to the gateways that send messages."""
