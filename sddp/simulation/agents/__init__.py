"""Markets whose participants move prices: agents, equilibria, outcomes among them, herding."""
