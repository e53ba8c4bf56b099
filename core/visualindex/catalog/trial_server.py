"""The embedded Postgres for other machines to reach: for trying VisualIndex out on a cluster that has no database.

Nothing here makes it fit for production: one server without replication, backup, TLS or upgrades.
"""

from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from visualindex.catalog.embedded import EmbeddedPostgres, Listening
from visualindex.errors import ProblemError, ProblemType

NAME = "visualindex"
"""Of the database, and of the only user who may use it by TCP."""


class TrialServer:
    """A Postgres with one database and one user that takes connections by TCP. Blocking calls."""

    def __init__(self, folder: Path, address: str, port: int, password: str) -> None:
        """Starts nothing yet. `folder` holds data, log and socket."""
        self._folder = folder
        self._password = password
        self._postgres = EmbeddedPostgres(folder, listening=Listening(address, port, NAME, NAME))

    def start(self) -> None:
        """Returns when the database can be used with the password; ProblemError UNAVAILABLE when it does not come up."""
        self._prepare()
        self._postgres.start()

    def run(self, is_over: Callable[[float], bool]) -> None:
        """Runs until `is_over`, which waits for the given seconds at most, says so; ProblemError when the server ends."""
        while not is_over(1.0):
            if self._postgres.pid is None:
                detail = f"Postgres ended by itself: its log is {self._postgres.log}"
                raise ProblemError(ProblemType.UNAVAILABLE, detail)

    def stop(self) -> None:
        """Ends the server; everything committed is on disk."""
        self._postgres.stop()

    def _prepare(self) -> None:
        """Makes user and database before anybody can come in: whoever waits for the server would meet it without them."""
        private = EmbeddedPostgres(self._folder)
        private.start()
        try:
            with psycopg.connect(private.dsn, autocommit=True) as connection:
                self._ensure_user(connection)
                if not _exists(connection, "SELECT FROM pg_database WHERE datname = %s"):
                    connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(NAME)))
        finally:
            private.stop()

    def _ensure_user(self, connection: psycopg.Connection) -> None:
        """Makes the user, or gives it a changed password. It is hashed here: a statement may end up in the server's log."""
        verifier = connection.pgconn.encrypt_password(
            self._password.encode(), NAME.encode(), b"scram-sha-256"
        )
        verb = "ALTER" if _exists(connection, "SELECT FROM pg_roles WHERE rolname = %s") else "CREATE"
        statement = sql.SQL(verb + " ROLE {} LOGIN PASSWORD {}")
        connection.execute(statement.format(sql.Identifier(NAME), sql.Literal(verifier.decode())))


def _exists(connection: psycopg.Connection, query: str) -> bool:
    return connection.execute(query.encode(), [NAME]).fetchone() is not None
