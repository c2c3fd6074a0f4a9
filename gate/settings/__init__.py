"""Environment variables and flags -> one frozen value."""
