"""Millions of clips as columns, made into Clips where somebody looks at them."""
