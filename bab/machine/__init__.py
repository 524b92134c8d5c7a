"""What this machine computes with: its GPUs, memory, and half precision."""
