"""Public data: downloads (``sddp data fetch``), and readers of the files that they write."""
