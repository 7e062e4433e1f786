"""The daily report of starts, renewals and cancellations."""
