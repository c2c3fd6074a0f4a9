"""The one engine of this process; its URL comes from DATABASE_URL or from the file that DATABASE_URL_FILE names."""

import os
from functools import cache
from pathlib import Path

from sqlalchemy import Engine, create_engine, make_url


@cache
def engine() -> Engine:
    url = make_url(os.environ.get("DATABASE_URL") or Path(os.environ["DATABASE_URL_FILE"]).read_text().strip())
    soon = {"connect_timeout": 5, "tcp_user_timeout": 10_000}  # a database that moved away must not hang requests
    return create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args=soon)
