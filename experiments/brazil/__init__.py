"""Gold, Ibovespa, dollar, euro and cash for a Brazilian investor: the slide deck's study."""
