"""What several corpora share."""
