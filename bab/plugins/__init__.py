"""The built-in plugins: found through entry points, exactly as a stranger's are."""
