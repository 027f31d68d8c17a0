"""One script per figure or table; run with ``python -m experiments.<name>``."""
