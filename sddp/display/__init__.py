"""How objects are shown: in notebooks, as figures, and as progress on a terminal."""
