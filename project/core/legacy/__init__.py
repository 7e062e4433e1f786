"""Moving in from the older services: their SQL dumps, and what an import reports."""
