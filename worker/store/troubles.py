"""Why PostgreSQL did not do what it was asked, in words that quote no part of the store's URL.

psycopg and libpq quote hosts, users, databases and options of the URL as they understood them, which may be a piece of
the password.
"""

from typing import Any

from sqlalchemy.exc import DBAPIError

# What libpq, psycopg and the server say about a connection, and what is said here instead. The first that fits counts.
WORDS = (
    ("password authentication failed", "it refuses the user or the password"),
    ("no password supplied", "it wants a password, and the URL has none"),
    ("no pg_hba.conf entry", "its pg_hba.conf lets this user in from nowhere like here"),
    ("role", "it does not know the user, or refuses it"),
    ("does not exist", "it does not have the database"),
    ("remaining connection slots", "it has no connection left"),
    ("too many", "it has no connection left"),
    ("starting up", "it is starting up"),
    ("shutting down", "it is shutting down"),
    ("terminating connection", "it ended the connection"),
    ("Connection refused", "connection refused"),
    ("timeout expired", "no answer in time"),
    ("timed out", "no answer in time"),
    ("resolve", "the name of its host cannot be resolved"),
    ("translate host name", "the name of its host cannot be resolved"),
    ("No such file or directory", "its socket is not there"),
    ("No route to host", "there is no route to its host"),
    ("unreachable", "its network cannot be reached"),
    ("certificate", "TLS: the certificates do not fit"),
    ("SSL", "TLS cannot be agreed on"),
    ("closed", "the connection was lost"),
    ("option", "an option of the URL cannot be used"),
    ("invalid", "an option of the URL cannot be used"),
)
CONNECTION = ("08", "28", "3D", "53", "57")  # classes of SQLSTATE: about the connection, not about a statement


def of_postgresql(error: DBAPIError) -> str | None:
    """What went wrong; None: this is another database."""
    cause: Any = error.orig
    if not type(cause).__module__.startswith("psycopg"):  # which an installation without PostgreSQL does not have
        return None
    state, said_by_server = cause.sqlstate or "", cause.diag.message_primary
    if error.statement is not None and said_by_server and not state.startswith(CONNECTION):
        return str(said_by_server)
    text = str(cause)
    return next((words for said, words in WORDS if said in text), "it cannot be reached; its own log may say why")
