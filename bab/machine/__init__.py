"""What this machine computes with: its GPUs, memory, half precision, packed weights."""
