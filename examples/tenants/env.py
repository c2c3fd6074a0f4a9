"""The Alembic environment: upgrades the schema of one tenant, which gate passes as `-x schema=NAME`."""

from alembic import context
from sqlalchemy import text

from shop.database import engine
from shop.models import Base


def run_migrations_online(schema: str) -> None:
    quoted = '"' + schema.replace('"', '""') + '"'
    with engine().connect() as connection:
        connection.execute(text("SELECT set_config('search_path', :path, false)"), {"path": quoted})
        connection.commit()
        connection.dialect.default_schema_name = schema
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
else:
    run_migrations_online(context.get_x_argument(as_dictionary=True)["schema"])
