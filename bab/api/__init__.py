"""The commands as Python functions: the same options, values in place of text."""
