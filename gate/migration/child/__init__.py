"""The child processes of a migration: the supervisor, and below it the upgrade with Alembic's API."""
