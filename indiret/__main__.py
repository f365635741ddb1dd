"""``python -m indiret`` is the ``indiret`` command."""

import sys

from indiret.cli import main

sys.exit(main())
