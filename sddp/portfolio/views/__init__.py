"""Black-Litterman: views of investors, the market's implied returns, and their posterior."""
