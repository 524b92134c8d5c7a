"""What several readers of models share."""
