"""The lower bound for every check: a bare script that connects and reads the version table."""

import os

import psycopg

with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    print(connection.execute("SELECT version_num FROM alembic_version").fetchall())
