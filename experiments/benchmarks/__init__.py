"""How fast training is: bound against time, where the time goes, how it grows."""
