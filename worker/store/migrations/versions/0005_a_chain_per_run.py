"""A chain of the audit for each run, and a chain of the runs; what is there stays chained. A recheck's whole lease."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "swept_run",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.add_column("run", sa.Column("audit_sha256", sa.String(length=64), server_default="", nullable=False))
    connection = op.get_bind()
    connection.execute(sa.text("alter table repository rename column look_until to lease_until"))
    op.add_column("repository", sa.Column("owner", sa.Text(), nullable=True))
    op.add_column("repository", sa.Column("fence", sa.Integer(), server_default="0", nullable=False))
    # A worker of an earlier version that still runs finds no head, and so records nothing into a chain that has ended.
    connection.execute(sa.text("update chain set name = 'former' where name = 'head'"))
    first = "insert into chain (name, seq, sha256) select 'runs', 0, sha256 from chain where name = 'former'"
    connection.execute(sa.text(first))
    connection.execute(sa.text("insert into chain (name, seq, sha256) values ('forgotten', 0, '')"))
    if connection.dialect.name == "postgresql":  # the numbers were given by hand until now
        newest = "select max(seq) from (select seq from audit union all select seq from chain) as numbers"
        sequence = "pg_get_serial_sequence('audit', 'seq')"
        connection.execute(sa.text(f"select setval({sequence}, ({newest}) + 1, false)"))
