"""Two-sided reconciliation with the provider's books."""
