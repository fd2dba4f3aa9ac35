"""examples/csv-to-postgresql with a real PostgreSQL of its own: each row once, through killed workers and a stopped server."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.examples.example_stand import ExampleStand
from support.repository import REPOSITORY

from inboxd import InboxFile

pytestmark = pytest.mark.examples

MakeExample = Callable[..., ExampleStand]

EXAMPLE = REPOSITORY / "examples" / "csv-to-postgresql"
ROWS_SQL = "SELECT path, line, day::text, account, amount::text FROM payment JOIN loaded_file ON file_id = id ORDER BY 1, 2"
HEADER = b"day,account,amount\n"
HOLD = 4711
"""The advisory lock for which a row with the account "hold" waits."""


@dataclass(frozen=True)
class Server:
    """A PostgreSQL cluster in a temporary folder, on a unix socket."""

    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        return {"PGHOST": str(self.folder), "PGPORT": "5432", "PGUSER": "example", "PGDATABASE": "payments"}

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(host=str(self.folder), port=5432, user="example", dbname="payments", autocommit=True)

    def rows(self) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(ROWS_SQL).fetchall()

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs, as a user who is not root: as root they refuse to run."""
        binary = next(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), None) or shutil.which(program)
        assert binary, f"no {program} found: apt install postgresql"
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        log = self.folder / f"{program}.log"
        with log.open("ab") as output:
            code = subprocess.run(
                (str(binary), *arguments), check=False, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **self.variables}, timeout=90, **user,
            ).returncode  # fmt: skip
        assert code == 0, f"{program} {arguments}:\n{log.read_text()}"

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=20"
        self.run("pg_ctl", "start", "-w", "-D", f"{self.folder}/data", "-o", options, "-l", f"{self.folder}/server.log")

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "-w", "-D", f"{self.folder}/data", "-m", "fast")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Server]:
    """Yield a running server with the example's tables."""
    folder = Path(tempfile.mkdtemp(prefix="inboxd-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    server = Server(folder)
    try:
        server.run("initdb", "-D", f"{folder}/data", "-U", "example", "--auth=trust", "--no-sync", "--encoding=UTF8")
        server.start()
        shutil.copy(EXAMPLE / "schema.sql", folder)
        (folder / "schema.sql").chmod(0o644)
        server.run("createdb", "--maintenance-db=template1", "payments")
        server.run("psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", "schema.sql")
        yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(folder)


@pytest.fixture
def server(cluster: Server) -> Server:
    """Return the running server with empty tables."""
    with cluster.connect() as connection:
        connection.execute("TRUNCATE payment, loaded_file")
    return cluster


BAD = {
    "header.csv": (b"day,amount\n", "Line 1: the columns must be day,account,amount"),
    "empty-names.csv": (b"\n", "Line 1: the columns must be"),
    "amount.csv": (HEADER + b"2026-11-30,Miller,1\n2026-11-30,Miller,1x\n", "Line 3: '1x' is no amount"),
    "infinite.csv": (HEADER + b"2026-11-30,Miller,Infinity\n", "Line 2: 'Infinity' is no amount with"),
    "huge.csv": (HEADER + b"2026-11-30,Miller,10000000000\n", "Line 2: '10000000000' is no amount with"),
    "enormous.csv": (HEADER + b"2026-11-30,Miller,1e999999\n", "Line 2: '1e999999' is no amount with"),
    "fraction.csv": (HEADER + b"2026-11-30,Miller,0.001\n", "Line 2: '0.001' is no amount with"),
    "day.csv": (HEADER + b"2026-11-31,Miller,1\n", "Line 2: day is out of range for month"),
    "account.csv": (HEADER + b"2026-11-30,,1\n", "Line 2: the account is missing"),
    "nul.csv": (HEADER + b"2026-11-30,a\0b,1\n", "Line 2: "),
    "few.csv": (HEADER + b"2026-11-30,Miller,1\n2026-11-30,Miller\n", "Line 3: 2 values instead of 3"),
    "quote.csv": (HEADER + b'2026-11-30,"Miller"x,1\n', "Line 2: "),
    "open-quote.csv": (HEADER + b'2026-11-30,"Miller,1\n', "Line 2: "),
    "latin-1.csv": (HEADER + "2026-11-30,Müller,1\n".encode("latin-1"), "the text is not UTF-8"),
}


def test_good_rows_are_stored_and_bad_ones_are_named(make_example: MakeExample, server: Server) -> None:
    stand = make_example("csv-to-postgresql", variables=server.variables).start()

    stand.drop(b"2026/a.csv", HEADER + '2026-11-30,Müller,-12.50\r\n\r\n2026-12-01,"a,\n""b""",1e2\n'.encode(), "payments")
    stand.drop(b"bom.csv", b"\xef\xbb\xbf" + HEADER + b"2026-11-30,Miller,9999999999.99\n", "payments")
    stand.drop(b"\xff.csv", HEADER + b"2026-11-30,\\N\t\\.,0\n", "payments")
    for name, (content, _) in BAD.items():
        stand.drop(name.encode(), content, "payments")
    stand.wait_filed("payments", done=3, failed=len(BAD))

    assert server.rows() == [
        ("2026/a.csv", 2, "2026-11-30", "Müller", "-12.50"),
        ("2026/a.csv", 5, "2026-12-01", 'a,\n"b"', "100.00"),
        ("\\xff.csv", 2, "2026-11-30", "\\N\t\\.", "0.00"),
        ("bom.csv", 2, "2026-11-30", "Miller", "9999999999.99"),
    ]
    for name, (_, reason) in BAD.items():
        assert reason in stand.reason(name, "payments"), name
    assert not stand.log_events("file_retried")


def test_a_worker_that_is_killed_in_the_middle_leaves_each_row_once(make_example: MakeExample, server: Server) -> None:
    stand = make_example("csv-to-postgresql", variables=server.variables).start()
    lines = [b"2026-11-30,account %d,%d\n" % (number, number) for number in range(20_000)]
    lines[15_000] = b"2026-11-30,hold,15000\n"
    with server.connect() as holder:
        holder.execute(
            f"CREATE FUNCTION hold() RETURNS trigger AS $$ BEGIN PERFORM pg_advisory_xact_lock({HOLD}); RETURN NEW; END $$ "
            "LANGUAGE plpgsql; CREATE TRIGGER hold BEFORE INSERT ON payment FOR EACH ROW "
            "WHEN (NEW.account = 'hold') EXECUTE FUNCTION hold()"
        )
        holder.execute("SELECT pg_advisory_lock(%s)", (HOLD,))

        def waiting(event: str) -> int:
            sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = %s"
            return holder.execute(sql, (event,)).fetchone()[0]  # type: ignore[index]

        stand.drop(b"a.csv", HEADER + b"".join(lines), "payments")
        stand.wait_until(lambda: waiting("advisory"), awaited="15,000 rows are sent")
        stand.worker.kill9()
        stand.worker.start()
        stand.wait_until(lambda: waiting("transactionid"), awaited="the second attempt waits for the first one's end")
        assert not server.rows()
    stand.wait_filed("payments", done=1)

    rows = server.rows()
    assert len(rows) == len(lines)
    assert [row[1] for row in rows] == list(range(2, len(lines) + 2))
    assert sum(float(row[4]) for row in rows) == sum(range(len(lines)))


def test_a_second_call_does_nothing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("payments", EXAMPLE / "payments.py")
    assert spec is not None
    assert spec.loader is not None
    payments = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(payments)
    (tmp_path / "a.csv").write_bytes(HEADER + b"2026-11-30,Miller,1\n")

    results = [payments.load(InboxFile.of(tmp_path / "a.csv", id=key, attempt=2)) for key in ("one", "one", "two")]

    assert results == [{"rows": 1}, {"rows": 0}, {"rows": 1}]
    assert len(server.rows()) == 2


def test_while_the_database_is_stopped_files_are_tried_again(make_example: MakeExample, server: Server) -> None:
    stand = make_example("csv-to-postgresql", variables=server.variables).start()
    server.stop()

    stand.drop(b"a.csv", HEADER + b"2026-11-30,Miller,1\n", "payments")
    stand.wait_until(lambda: len(stand.log_events("file_retried", stand.worker)) >= 2)
    assert not stand.names("failed", "payments")
    server.start()
    stand.wait_filed("payments", done=1)

    assert server.rows() == [("a.csv", 2, "2026-11-30", "Miller", "1.00")]
