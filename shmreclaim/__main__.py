"""`python -m shmreclaim` is the command `shmreclaim`."""

import sys

from shmreclaim.cli import main

sys.exit(main())
