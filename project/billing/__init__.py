"""The billing engine: customers, packages, subscriptions, payments, reconciliation."""
