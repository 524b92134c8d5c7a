"""Weights by name: known ones, paths, what is fetched from the hub; and how they are read."""
