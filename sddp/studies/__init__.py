"""What many runs share: where their results go and what is recorded about them."""
