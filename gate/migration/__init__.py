"""Upgrade the schema under the lock, in a child process."""
