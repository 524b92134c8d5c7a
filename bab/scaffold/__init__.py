"""A new plugin's package, written from templates, that works as it stands."""
