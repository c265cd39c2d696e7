"""A PostgreSQL cluster of the benchmark's own: made, filled, changed, stopped."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

USER = "postgres" if any(entry.pw_name == "postgres" for entry in pwd.getpwall()) else "nobody"
PAGE = 8192


def as_server(command):
    """The server refuses root: what has to do with it runs as its own user."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", f"--reuid={USER}", "--regid", str(pwd.getpwnam(USER).pw_gid), "--clear-groups", *command]


class Cluster:
    """One server on a socket of its own in a directory of its own."""

    def __init__(self, root, programs):
        self.root = pathlib.Path(root)
        self.programs = pathlib.Path(programs)
        self.data = self.root / "data"
        self.port = 20000 + os.getpid() % 20000
        # A socket's path is short by necessity.
        self.socket = pathlib.Path(tempfile.mkdtemp(prefix="peers-"))
        for directory in (self.root, self.socket):
            directory.mkdir(parents=True, exist_ok=True)
            if os.geteuid() == 0:
                shutil.chown(directory, USER)

    @property
    def uri(self):
        return f"postgres://{USER}@/postgres?host={self.socket}&port={self.port}"

    def major(self):
        """The server's major version."""
        return int(self.run(self.program("postgres"), "--version").split()[2].split(".")[0])

    def program(self, name):
        return str(self.programs / name)

    def environment(self):
        return {**os.environ, "PGHOST": str(self.socket), "PGPORT": str(self.port), "PGUSER": USER,
                "PGDATABASE": "postgres", "HOME": str(self.root), "LC_ALL": "C"}

    def run(self, *command, **options):
        return subprocess.run(as_server(command), env=self.environment(), cwd=self.root, check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options).stdout

    def make(self, settings):
        self.run(self.program("initdb"), "-D", str(self.data), "-U", USER, "-A", "trust", "-k", "--no-sync")
        lines = {"listen_addresses": "", "unix_socket_directories": str(self.socket), "port": self.port,
                 "max_wal_size": "16GB", "checkpoint_timeout": "1h", "shared_buffers": "512MB",
                 "autovacuum": "off", "wal_level": "replica", "max_wal_senders": 4, **settings}
        with open(self.data / "postgresql.auto.conf", "a", encoding="utf-8") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in lines.items())

    def setting(self, name, value):
        self.sql(f"ALTER SYSTEM SET {name} = '{value}'")
        self.sql("SELECT pg_reload_conf()")

    def forget_log(self):
        """Has the server remove the log that it does not need itself."""
        for _ in range(3):
            self.sql("SELECT pg_switch_wal()")
            self.sql("CHECKPOINT")

    def start(self):
        self.run(self.program("pg_ctl"), "-D", str(self.data), "-w", "-t", "600", "-l", str(self.root / "log"), "start")

    def stop(self):
        self.run(self.program("pg_ctl"), "-D", str(self.data), "-w", "-m", "fast", "stop")

    def sql(self, text):
        return self.run(self.program("psql"), "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", text).strip()

    def fill(self, scale, mib):
        """pgbench's tables with room on each page for an update, and `mib` of rows that compress about 3:1."""
        self.run(self.program("pgbench"), "-i", "-q", "-s", str(scale), "-F", "90")
        rows = mib * 1024 * 1024 // 180
        self.sql("CREATE TABLE dense (id int, body text) WITH (fillfactor = 90);"
                 f"INSERT INTO dense SELECT i, md5(i::text) || md5((i * 7)::text) || repeat(md5((i / 3)::text), 2) "
                 f"FROM generate_series(1, {rows}) AS i")
        self.sql("VACUUM FREEZE")
        self.sql("CHECKPOINT")

    def change(self, turn, share):
        """Updates one row on about `share` of all pages, at random; gives how many pages that were."""
        changed = 0
        for table, key in (("pgbench_accounts", "aid"), ("dense", "id")):
            pages = int(self.sql(f"SELECT greatest(pg_relation_size('{table}') / {PAGE}, 1)"))
            rows = int(self.sql(f"SELECT count(*) FROM {table}"))
            if rows == 0:
                continue
            every = max(int(rows / (pages * share)), 1)
            column = "abalance = abalance + 1" if table == "pgbench_accounts" else "id = id"
            changed += int(self.sql(
                f"WITH done AS (UPDATE {table} SET {column} WHERE (hashint8({key} + {turn}) & 2147483647) % {every} = 0 "
                "RETURNING ctid) SELECT count(DISTINCT (ctid::text::point)[0]) FROM done"))
        return changed

    def size(self):
        """Bytes of the data directory without the log."""
        return sum(path.stat().st_size for path in self.data.rglob("*")
                   if path.is_file() and "pg_wal" not in path.parts)
