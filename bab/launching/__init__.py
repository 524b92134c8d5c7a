"""Jobs that run elsewhere: submitted, watched, picked up again."""
