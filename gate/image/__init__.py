"""What this image expects: its migration scripts, read as text."""
