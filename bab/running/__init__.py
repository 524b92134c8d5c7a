"""One run of a task: built, trained, tuned on dev, scored on test; and its model loaded again."""
