"""The tools that are compared: each knows how to take a full backup, an increment, and to restore them."""

import pathlib
import shutil

from cluster import USER, as_server


class Tool:
    """What all tools have: a place of their own, and commands that run as the server's user."""
    name = ""
    increments = True

    def __init__(self, cluster, root):
        self.cluster, self.root = cluster, pathlib.Path(root) / self.name.split()[0]
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        self.repo = self.root / "repo"
        self.own(self.root)

    @staticmethod
    def own(path):
        shutil.chown(path, USER)

    def prepare(self):
        """Whatever is done once."""

    def forget(self):
        """Takes all backups away."""
        shutil.rmtree(self.repo, ignore_errors=True)
        self.prepare()

    def command(self, *words):
        return as_server([str(word) for word in words])


class Setpiece(Tool):
    """Encrypted, two channels."""
    name = "setpiece"

    def __init__(self, cluster, root, program):
        super().__init__(cluster, root)
        self.program = self.root / "setpiece"
        shutil.copy(program, self.program)
        self.own(self.program)

    def words(self, *words):
        return self.command(self.program, *words, "--repo", f"disk:{self.repo}", "--key-file", self.root / "key",
                            "--cache-dir", self.root / "cache")

    def prepare(self):
        shutil.rmtree(self.root / "cache", ignore_errors=True)
        if not (self.root / "key").exists():
            self.cluster.run(self.program, "key", "new", "--out", self.root / "key")
        self.cluster.run(*map(str, [self.program, "init", "--repo", f"disk:{self.repo}", "--key-file", self.root / "key"]))

    def full(self):
        return self.words("backup", "--source", self.cluster.uri, "--level", "full")

    def increment(self):
        return self.words("backup", "--source", self.cluster.uri, "--level", "differential")

    def restore(self, to):
        return self.words("restore", "--set", "latest", "--to", to)

    def delta(self, to):
        return self.words("restore", "--set", "latest", "--to", to, "--delta")

    def push(self, segment):
        return self.words("log", "push", "--data-dir", self.cluster.data, segment)

    def push_ahead(self, segment):
        return self.push(segment) + ["--async", "--spool", str(self.root / "spool")]


class PgBackRest(Tool):
    """Debian's, encrypted, two processes."""
    name = "pgbackrest"

    def prepare(self):
        self.repo.mkdir(exist_ok=True)
        self.own(self.repo)
        conf = self.root / "conf"
        conf.write_text(f"""[global]
repo1-path={self.repo}
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=of-the-benchmark
process-max=2
compress-type=zst
compress-level=1
start-fast=y
archive-check=n
archive-mode-check=n
log-level-console=warn
log-level-file=off
lock-path={self.root}/lock
spool-path={self.root}/spool
[db]
pg1-path={self.cluster.data}
pg1-socket-path={self.cluster.socket}
pg1-port={self.cluster.port}
pg1-user={USER}
""", encoding="utf-8")
        self.cluster.run(*self.words("stanza-create")[len(as_server([])):])

    def words(self, *words):
        return self.command("pgbackrest", f"--config={self.root / 'conf'}", "--stanza=db", *words)

    def full(self):
        return self.words("--type=full", "backup")

    def increment(self):
        return self.words("--type=incr", "backup")

    def restore(self, to):
        return self.words(f"--pg1-path={to}", "--type=none", "restore")

    def delta(self, to):
        return self.words(f"--pg1-path={to}", "--type=none", "--delta", "restore")

    def push(self, segment):
        return self.words("archive-push", segment)

    def push_ahead(self, segment):
        return self.words("--archive-async", "archive-push", segment)


class PgBasebackup(Tool):
    """The server's own, compressed by the client with two workers; not encrypted. Increments from version 17 on."""
    name = "pg_basebackup"

    def __init__(self, cluster, root):
        super().__init__(cluster, root)
        self.increments = cluster.major() >= 17
        self.taken = 0

    def words(self, *words):
        self.repo.mkdir(exist_ok=True)
        self.own(self.repo)
        return self.command(self.cluster.program("pg_basebackup"), "-d", self.cluster.uri, "-D", self.repo / str(self.taken),
                            "-Ft", "-c", "fast", "-X", "none", "--compress=client-zstd:level=1,workers=2", *words)

    def full(self):
        self.taken = 0
        return self.words()

    def increment(self):
        base = self.repo / str(self.taken) / "backup_manifest"
        self.taken += 1
        return self.words(f"--incremental={base}")

    def restore(self, to):
        return self.command("sh", "-c", f"mkdir -p -m 700 {to} && zstd -dcq {self.repo}/0/base.tar.zst | tar -C {to} -xf - && sync")


class TarZstd(Tool):
    """No backup of a running server, but what a pipe of two programs takes; not encrypted."""
    name = "tar+zstd"
    increments = False

    def prepare(self):
        self.repo.mkdir(exist_ok=True)
        self.own(self.repo)

    def full(self):
        return self.command("sh", "-c", f"tar -C {self.cluster.data} -cf - . | zstd -1 -T2 -q -f -o {self.repo}/tar.zst")

    def restore(self, to):
        return self.command("sh", "-c", f"mkdir -p -m 700 {to} && zstd -dcq {self.repo}/tar.zst | tar -C {to} -xf - && sync")


class Restic(Tool):
    """Of the files of a running server; encrypted, its own compression."""
    name = "restic"

    def words(self, *words):
        return self.command("env", "RESTIC_PASSWORD=of-the-benchmark", "GOMAXPROCS=2", "restic", "-q", "-r", self.repo,
                            "--cache-dir", self.root / "cache", *words)

    def prepare(self):
        self.cluster.run(*self.words("init", "--repository-version", "2")[len(as_server([])):])

    def full(self):
        return self.words("backup", "--force", self.cluster.data)

    def increment(self):
        return self.words("backup", self.cluster.data)

    def restore(self, to):
        return self.words("restore", "latest", "--target", to)
