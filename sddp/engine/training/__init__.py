"""Training: the loop, forward and backward passes, stopping, workers."""
