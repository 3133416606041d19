"""What a run says beside its plan: warnings, unreadable images, emptied repositories, who opened or ended it, and the
settings that its plan was made by; how much of what a source of evidence names is foreign.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

LISTS = ("warnings", "unreadable_images", "emptied_repositories")  # JSON
PEOPLE = ("opened_by", "approved_by", "aborted_by")


def upgrade() -> None:
    for name in LISTS:
        op.add_column("run", sa.Column(name, sa.Text(), nullable=False, server_default="[]"))
    for name in PEOPLE:
        op.add_column("run", sa.Column(name, sa.Text()))
    op.add_column("run", sa.Column("terms", sa.Text(), nullable=False, server_default="{}"))
    op.add_column("evidence", sa.Column("foreign_references", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run", sa.Column("undecidable", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("item", sa.Column("refused", sa.Text()))
    op.add_column("item", sa.Column("refused_hint", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.add_column("pause", sa.Column("resumed_at", sa.BigInteger()))
    op.add_column("pause", sa.Column("resumed_by", sa.Text()))
    op.add_column("run", sa.Column("after_run_over", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.add_column("run", sa.Column("after_run_tries", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("run", sa.Column("after_run_again", sa.BigInteger()))
    op.add_column("blob", sa.Column("kept", sa.Boolean(), nullable=False, server_default=sa.text("false")))
