"""Payments: drawn, settled, asked after, expired."""
