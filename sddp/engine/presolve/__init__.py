"""What happens once before training: presolve, and bounds on the cost-to-go."""
