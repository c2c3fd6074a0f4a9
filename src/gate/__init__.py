"""gate lets a server start only when its database schema fits the code (Alembic)."""

__version__ = "0.1.0"
