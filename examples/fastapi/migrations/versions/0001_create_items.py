"""create items"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "items",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
    )
    op.execute("INSERT INTO items (name) VALUES ('a lamp'), ('a chair')")


def downgrade() -> None:
    op.drop_table("items")
