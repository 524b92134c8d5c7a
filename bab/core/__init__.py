"""Contracts, and what every room stands on: it names no plugin and imports no other room."""
