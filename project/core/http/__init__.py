"""The API: blueprints, credentials, input, pages of lists, idempotency, health."""
