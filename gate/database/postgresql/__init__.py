"""PostgreSQL by psycopg."""
