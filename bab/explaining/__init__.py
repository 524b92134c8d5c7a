"""Why a model says what it says: what it looked at, which layers it reads, where it is wrong."""
