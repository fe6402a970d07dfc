"""``python -m convec``: the same as the command ``convec``."""

from __future__ import annotations

import sys

from convec.cli import main

sys.exit(main())
