"""Multi-stage allocation on the engine: model, risk-constrained stage, policy."""
