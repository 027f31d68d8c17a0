"""``python -m sddp`` is the command ``sddp``."""

import sys

from sddp.cli import main

if __name__ == "__main__":
    sys.exit(main())
