"""The built-in components, found as a stranger's are."""
