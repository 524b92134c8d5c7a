"""Any span of any audio file, as mono float32 at a rate."""
