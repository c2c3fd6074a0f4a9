"""Upgrade the database under the migration lock, in a child process."""
