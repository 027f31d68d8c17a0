"""Constraints in users' words: sets of them, as rows and bounds, and why some contradict."""
