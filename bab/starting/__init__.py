"""How the work of a command begins and ends: device, lock, signals, observers."""
