"""What the user states: graph, stages, noise, transitions, sampling, problem."""
