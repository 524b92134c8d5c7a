"""What plugins hand over, checked against their contracts, and whose code a failure came out of."""
