"""What gate costs, measured: `make bench` writes RESULTS.md and results.png."""
