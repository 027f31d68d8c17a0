"""SDDP for any linear multistage stochastic programme. Knows no asset and no cost of trading."""
