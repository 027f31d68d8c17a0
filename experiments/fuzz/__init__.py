"""Random campaigns: problems of every kind against answers from elsewhere."""
