"""What frozen encoders say of clips: made once, kept on disk within a budget, read in batches."""
