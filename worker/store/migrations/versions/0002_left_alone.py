"""Being left alone: what people asked for, what is in use, what earlier scans saw, and an audit that is a chain."""

import hashlib
import json
import uuid

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

FACTS = (
    *("seq", "at", "registry", "repository", "digest", "image_id", "tags", "run_id", "item", "decision", "outcome"),
    *("operation_id", "reclaimed_bytes"),
)


def upgrade() -> None:
    op.create_table(
        "about",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "chain",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "evidence",
        sa.Column("registry", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("read_at", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("baseline", sa.Integer(), nullable=False),
        sa.Column("uses", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("registry", "source"),
    )
    op.create_table(
        "hold",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("registry", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("repository", sa.Text(), nullable=True),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.Column("released_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("hold_by_registry", "hold", ["registry"], unique=False)
    op.create_table(
        "memory",
        sa.Column("registry", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("seen", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("registry", "path"),
    )
    op.create_table(
        "memory_next",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("seen", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "path"),
    )
    op.create_table(
        "pause",
        sa.Column("registry", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("registry"),
    )
    op.add_column("audit", sa.Column("sha256", sa.String(length=64), server_default="", nullable=False))
    op.add_column("registry", sa.Column("vanished_accepted_at", sa.BigInteger(), nullable=True))
    op.add_column("run", sa.Column("swept_at", sa.BigInteger(), nullable=True))
    op.add_column("run", sa.Column("verified_at", sa.BigInteger(), nullable=True))
    op.add_column("run", sa.Column("verifications", sa.Integer(), server_default="0", nullable=False))
    op.add_column("run", sa.Column("doubt", sa.Text(), nullable=True))
    op.add_column("run", sa.Column("differences", sa.Text(), server_default="[]", nullable=False))
    op.add_column("run", sa.Column("budget_missed_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("run", sa.Column("different", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("run", sa.Column("foreign_deletions", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("run", sa.Column("told", sa.String(length=16), nullable=True))
    op.add_column("run", sa.Column("telling", sa.Text(), nullable=True))
    connection = op.get_bind()
    connection.execute(sa.text("insert into about (name, value) values ('store_id', :id)"), {"id": str(uuid.uuid4())})
    # People were not to be told of these runs when they ended, and are not now.
    connection.execute(sa.text("update run set told = coalesce(outcome, state) where state in ('finished', 'blocked')"))
    _chain_what_is_there(connection)


def _chain_what_is_there(connection: sa.Connection) -> None:
    """The same as `store.audit` does with each new row; written out here, because a migration never changes."""
    seq, digest = 0, ""
    rows = connection.execute(sa.text("select * from audit order by seq")).mappings().all()
    for row in rows:
        facts = json.dumps([row[name] for name in FACTS], ensure_ascii=False, separators=(",", ":"))
        seq, digest = row["seq"], hashlib.sha256(f"{digest}\n{facts}".encode()).hexdigest()
        connection.execute(sa.text("update audit set sha256 = :sha where seq = :seq"), {"sha": digest, "seq": seq})
    chain = sa.text("insert into chain (name, seq, sha256) values (:name, :seq, :sha)")
    connection.execute(chain, [{"name": "anchor", "seq": 0, "sha": ""}, {"name": "head", "seq": seq, "sha": digest}])
