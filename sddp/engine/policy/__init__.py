"""Trained policies: decide, simulate, files, certificates; and the extensive form."""
