"""The one-period optimizers."""
