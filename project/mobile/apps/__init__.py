"""Apps and where their callbacks go."""
