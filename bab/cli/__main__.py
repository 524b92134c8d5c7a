"""`python -m bab.cli`, as torchrun wants it."""

import sys

from bab.cli import main

sys.exit(main())
