"""The verdict over HTTP."""
