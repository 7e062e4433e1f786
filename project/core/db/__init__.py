"""The database: transactions, tables of the kernel, bulk statements, locks, snapshots."""
