"""Check, decide, act, repeat."""
