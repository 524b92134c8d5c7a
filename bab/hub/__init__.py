"""Weights by name: known ones, paths, and what is fetched from the hub."""
