"""Calls to the outside: one client, and the guard on the addresses that it connects to."""
