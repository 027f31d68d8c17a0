"""Hidden Markov models: parameters, starting points, expectation maximization, the search."""
