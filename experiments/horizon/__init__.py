"""What a horizon is worth, where the truth is known."""
