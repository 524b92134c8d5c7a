"""Parts of `scripts/make_samples.py`: made-up voices, made-up rooms, made-up homes."""
