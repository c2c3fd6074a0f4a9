"""What this image expects: its Alembic configuration, migration scripts and revision graph."""
