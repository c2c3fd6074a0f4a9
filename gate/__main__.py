"""`python -m gate` is `gate`."""

from __future__ import annotations

from gate.cli.main import main

main()
