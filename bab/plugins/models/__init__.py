"""Built-in readers of other tools' models."""
