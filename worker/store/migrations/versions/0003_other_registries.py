"""Registries of other kinds: manifests with all that they say, and what was deleted, to be put back."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "undo",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("registry", sa.Text(), nullable=False),
        sa.Column("registry_key", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "item"),
    )
    op.create_index("undo_by_digest", "undo", ["registry_key", "digest"])
    op.add_column("run", sa.Column("raced", sa.Text(), nullable=False, server_default="[]"))
    _all_that_manifests_say()


def _all_that_manifests_say() -> None:
    """One column of JSON in the place of a column a fact; what was read already is not read again."""
    connection = op.get_bind()
    old = sa.table(
        "manifest", *(sa.column(name) for name in ("registry_key", "digest", "media_type", "children", "subject"))
    )
    rows = connection.execute(sa.select(old)).all()
    op.drop_table("manifest")
    new = op.create_table(
        "manifest",
        sa.Column("registry_key", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("registry_key", "digest"),
    )
    if rows:
        op.bulk_insert(
            new, [{"registry_key": row.registry_key, "digest": row.digest, "facts": _facts(row)} for row in rows]
        )


def _facts(row: sa.Row[Any]) -> bytes:
    children = None if row.children is None else json.loads(row.children)
    facts = {"digest": row.digest, "media_type": row.media_type, "children": children}
    return json.dumps(facts | ({} if row.subject is None else {"subject": row.subject})).encode()
