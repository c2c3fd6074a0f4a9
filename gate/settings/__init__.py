"""Environment and flags -> one frozen value."""
