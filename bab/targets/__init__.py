"""Frame labels by k-means, made once and read by crops."""
