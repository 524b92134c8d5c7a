"""A trained model, or an encoder alone, on audio of any length: `bab predict` and `bab embed`."""
