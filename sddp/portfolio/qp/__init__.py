"""The quadratic program of one period with transaction costs, and what solves it."""
