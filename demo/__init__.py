"""The demo, and the embedded PostgreSQL that the tests and benchmarks use as well."""
