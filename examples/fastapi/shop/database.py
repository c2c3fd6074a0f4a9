"""The engine of the process. Its URL is DATABASE_URL, or the content of the file DATABASE_URL_FILE."""

import os
from functools import cache
from pathlib import Path

from sqlalchemy import Engine, create_engine, make_url


@cache
def engine() -> Engine:
    url = make_url(os.environ.get("DATABASE_URL") or Path(os.environ["DATABASE_URL_FILE"]).read_text().strip())
    timeouts = {"connect_timeout": 5, "tcp_user_timeout": 10_000}  # requests must not hang when the database is lost
    return create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args=timeouts)
