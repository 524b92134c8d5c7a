"""Clips: what a corpus holds, checked, split, cut into windows, batched; annotation files."""
