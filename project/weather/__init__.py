"""Forecast SMS: forecasts, subscribers by CSV, carrier billing, one message a day."""
