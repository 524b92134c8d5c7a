"""Built-in annotation formats."""
