"""Store subscriptions of mobile apps: devices, purchases, their renewal and their report."""
