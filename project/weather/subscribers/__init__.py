"""Subscribers: phone numbers that get a forecast a day."""
