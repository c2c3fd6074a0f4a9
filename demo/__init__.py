"""The demo, and the embedded PostgreSQL that it shares with the tests and the benchmarks."""
