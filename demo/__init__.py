"""The product's promises, shown and asserted against the running copy."""
