"""Cuts, value functions, the cost-to-go and the checkpoint of a training."""
