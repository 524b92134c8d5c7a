"""`python -m bab`: the command line."""

import sys

from bab.cli import main

if __name__ == "__main__":
    sys.exit(main())
