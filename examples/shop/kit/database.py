"""PostgreSQL for the Python services: a handful of connections, renewed when they broke."""

import os
import threading

# Neither is in use inside a private network; trying them costs a start-up some milliseconds and
# memory. A URL that asks for one still gets it.
os.environ.setdefault("PGGSSENCMODE", "disable")
os.environ.setdefault("PGSSLMODE", "disable")

import psycopg2

from kit.serve import Problem, describe

MAX_IDLE = 4


class Database:
    """Runs functions in transactions."""

    def __init__(self, url):
        self._url = url
        self._idle = []
        self._lock = threading.Lock()

    def run(self, work):
        """Calls `work(cursor)` in a transaction and returns its result.

        An idle connection may have died unseen, together with a server that was restarted. Then
        the work is repeated once on a new one; a failed commit is not, since it may have happened.
        """
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                return self._work(connection, work)
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                if connection.committing:
                    raise
        return self._work(self._connect(), work)

    def _connect(self):
        try:
            return psycopg2.connect(self._url, connect_timeout=5, connection_factory=Connection)
        except psycopg2.OperationalError as error:
            raise Problem(503, f"the database is out of reach: {describe(error)}") from error

    def _work(self, connection, work):
        connection.committing = False
        try:
            with connection.cursor() as cursor:
                result = work(cursor)
            connection.committing = True
            connection.commit()
        except BaseException:
            # Closing rolls back; failures are rare enough for a new connection afterwards.
            if not connection.closed:
                connection.close()
            raise
        with self._lock:
            if len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return result
        connection.close()
        return result


class Connection(psycopg2.extensions.connection):
    """A connection that knows whether its last work had reached the commit."""

    committing = False


def rows(cursor):
    """All rows as dictionaries."""
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]
