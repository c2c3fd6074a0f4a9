"""Run the command line: `python -m gate`."""

from __future__ import annotations

from gate.cli.main import main

main()
