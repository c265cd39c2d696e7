//! Work for a server that makes it write WAL of as many kinds as possible.

use crate::server::Server;

/// What both halves of a test begin with: tables with every kind of index, vacuumed so that the visibility map is full.
const BEFORE: &str = r"
CREATE EXTENSION IF NOT EXISTS bloom;
CREATE EXTENSION IF NOT EXISTS pg_visibility;
CREATE TABLE things (id bigserial PRIMARY KEY, k int, words text, list int[], place point, span int4range, doc tsvector);
INSERT INTO things (k, words, list, place, span, doc)
  SELECT n % 977, repeat(md5(n::text), 3), ARRAY[n % 50, n % 51, n % 53], point(n % 101, n % 103),
         int4range(n, n + n % 7 + 1), to_tsvector('simple', md5(n::text) || ' word' || n % 30)
  FROM generate_series(1, 12000) n;
CREATE INDEX things_k ON things (k);
CREATE INDEX things_hash ON things USING hash (k);
CREATE INDEX things_gin ON things USING gin (list);
CREATE INDEX things_doc ON things USING gin (doc) WITH (fastupdate = on);
CREATE INDEX things_gist ON things USING gist (place);
CREATE INDEX things_span ON things USING gist (span);
CREATE INDEX things_spgist ON things USING spgist (place);
CREATE INDEX things_text ON things USING spgist (words);
CREATE INDEX things_brin ON things USING brin (id) WITH (pages_per_range = 4, autosummarize = on);
CREATE INDEX things_bloom ON things USING bloom (k, words);
CREATE TABLE seen (id int PRIMARY KEY, note text) WITH (fillfactor = 60);
INSERT INTO seen SELECT n, repeat('x', 150) FROM generate_series(1, 9000) n;
CREATE TABLE tail AS SELECT n, repeat('y', 200) AS y FROM generate_series(1, 20000) n;
CREATE TABLE cut AS SELECT * FROM tail;
CREATE TABLE empty (n int);
CREATE UNLOGGED TABLE fleeting AS SELECT n FROM generate_series(1, 3000) n;
CREATE INDEX fleeting_n ON fleeting (n);
CREATE TABLE gone AS SELECT * FROM seen;
CREATE SEQUENCE counter;
SELECT nextval('counter');
CREATE TABLE boxes (id int PRIMARY KEY, large oid);
INSERT INTO boxes SELECT n, lo_from_bytea(0, decode(repeat(md5(n::text), 400), 'hex')) FROM generate_series(1, 20) n;
VACUUM (FREEZE) things, seen, tail, cut, gone;
";

/// Rows come, change, are locked and go; first of all those whose blocks are all visible and frozen.
const ROWS: &str = r"
INSERT INTO things (k, words) SELECT n, 'new' FROM generate_series(1, 400) n;
UPDATE seen SET note = 'short' WHERE id % 50 = 1;
UPDATE seen SET note = repeat('z', 1500) WHERE id % 61 = 2;
DELETE FROM seen WHERE id % 97 = 3;
BEGIN; SELECT count(*) FROM (SELECT 1 FROM seen WHERE id BETWEEN 4000 AND 4100 FOR UPDATE) x; COMMIT;
BEGIN; SELECT count(*) FROM (SELECT 1 FROM seen WHERE id BETWEEN 6000 AND 6020 FOR KEY SHARE) x; ROLLBACK;
BEGIN;
UPDATE seen SET note = 'a' WHERE id = 8000; SAVEPOINT one;
UPDATE seen SET note = 'b' WHERE id = 8001; SAVEPOINT two;
DELETE FROM seen WHERE id = 8002; ROLLBACK TO one;
INSERT INTO seen VALUES (100001, 'c'); RELEASE one;
COMMIT;
INSERT INTO seen VALUES (1, 'again') ON CONFLICT (id) DO UPDATE SET note = excluded.note;
INSERT INTO seen SELECT n, 'n' FROM generate_series(8990, 9100) n ON CONFLICT DO NOTHING;
UPDATE things SET k = k + 1000, words = words || 'x' WHERE id % 7 = 0;
DELETE FROM things WHERE id % 11 = 0;
SELECT count(*) FROM seen;
SELECT gin_clean_pending_list('things_doc');
VACUUM things;
SELECT brin_summarize_new_values('things_brin');
UPDATE things SET list = list || 7, place = point(id % 19, 5), span = int4range(1, 3) WHERE id % 13 = 0;
SELECT nextval('counter') FROM generate_series(1, 100);
SELECT setval('counter', 5000);
SELECT lo_put((SELECT large FROM boxes WHERE id = 3), 2500, '\xabcdef');
SELECT lo_unlink((SELECT large FROM boxes WHERE id = 4));
DELETE FROM boxes WHERE id = 4;
INSERT INTO boxes SELECT n, lo_from_bytea(0, decode(repeat(md5(n::text), 900), 'hex')) FROM generate_series(50, 55) n;
";

/// Tables are loaded, cut, rewritten, dropped.
const TABLES: &str = r"
COPY seen (id, note) FROM PROGRAM 'seq -f ''%.0f,copied'' 200000 203000' WITH (FORMAT csv);
BEGIN; CREATE TABLE loaded (id int, note text);
COPY loaded FROM PROGRAM 'seq -f ''%.0f,frozen'' 1 3000' WITH (FORMAT csv, FREEZE); COMMIT;
DELETE FROM tail WHERE n > 4321;
VACUUM tail;
INSERT INTO tail SELECT n, 'back' FROM generate_series(30000, 31000) n;
TRUNCATE cut;
INSERT INTO cut SELECT n, 'cut' FROM generate_series(1, 500) n;
BEGIN; TRUNCATE empty; INSERT INTO empty SELECT generate_series(1, 100); ROLLBACK;
BEGIN; CREATE TABLE never (a int); INSERT INTO never VALUES (1); ROLLBACK;
SELECT pg_truncate_visibility_map('things');
VACUUM (FREEZE) things;
VACUUM FULL seen;
CLUSTER things USING things_k;
REINDEX TABLE things;
ALTER TABLE tail ADD COLUMN more int DEFAULT 5;
ALTER TABLE tail ALTER COLUMN n TYPE bigint;
DROP TABLE gone;
CREATE TABLE fresh AS SELECT n, repeat('q', n % 3000) AS q FROM generate_series(1, 2000) n;
CREATE INDEX CONCURRENTLY fresh_n ON fresh (n);
UPDATE fleeting SET n = n + 1;
CREATE UNLOGGED TABLE passing AS SELECT 1 AS n;
ALTER TABLE passing SET LOGGED;
ALTER TABLE fresh SET UNLOGGED;
ALTER TABLE fresh SET LOGGED;
CREATE TEMP TABLE mine AS SELECT generate_series(1, 100);
CREATE MATERIALIZED VIEW sight AS SELECT k, count(*) FROM things GROUP BY k;
REFRESH MATERIALIZED VIEW sight;
DROP INDEX things_bloom;
VACUUM FULL pg_class;
VACUUM FULL pg_database;
REINDEX TABLE pg_attribute;
ANALYZE;
CREATE TABLE parts (a int) PARTITION BY RANGE (a);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
INSERT INTO parts SELECT generate_series(0, 19);
UPDATE parts SET a = 15 WHERE a = 5;
";

/// Transactions in two steps.
const TWO_PHASE: &str = r"
BEGIN; CREATE TABLE promised AS SELECT generate_series(1, 100) AS n; DROP TABLE cut; PREPARE TRANSACTION 'kept';
BEGIN; CREATE TABLE denied AS SELECT generate_series(1, 100) AS n; DELETE FROM tail; PREPARE TRANSACTION 'broken';
COMMIT PREPARED 'kept';
ROLLBACK PREPARED 'broken';
SELECT pg_logical_emit_message(true, 'setpiece', repeat('m', 20000));
SELECT pg_logical_emit_message(false, 'setpiece', repeat('m', 200000));
";

/// Makes the tables that [`rows`] and [`files`] change.
pub(crate) fn before(server: &Server) {
    server.sql("postgres", BEFORE);
    let place = server.directory("space");
    server.sql("postgres", &format!("CREATE TABLESPACE space LOCATION '{}'", place.display()));
    let inside = r"
CREATE TABLE far (id int PRIMARY KEY, note text) TABLESPACE space;
INSERT INTO far SELECT n, repeat('f', 100) FROM generate_series(1, 3000) n;
CREATE TABLE moving AS SELECT * FROM far;
VACUUM far;
";
    server.sql("postgres", inside);
    server.sql("postgres", "CREATE DATABASE older");
    server.sql("older", "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n; VACUUM kept");
    server.sql("postgres", "CREATE DATABASE leaving");
}

/// Changes rows in place, so that most of what was there before is still there afterwards.
pub(crate) fn rows(server: &Server) {
    server.sql("postgres", ROWS);
    server.sql("postgres", "CHECKPOINT");
    side_by_side(server);
    server.sql("older", "DELETE FROM kept WHERE n % 100 = 0; SELECT count(*) FROM kept");
}

/// Makes, cuts, rewrites and drops what there is.
pub(crate) fn files(server: &Server) {
    server.sql("postgres", TABLES);
    server.sql("postgres", "SELECT pg_switch_wal()");
    server.sql("postgres", TWO_PHASE);
    if server.sql("postgres", "SHOW wal_level") != "minimal" {
        server.sql("postgres", "SELECT pg_create_restore_point('between two works')");
    }
    compressed(server);
    tablespaces(server);
    databases(server);
    server.sql("postgres", "CHECKPOINT");
    server.sql("older", "DELETE FROM kept WHERE n % 10 = 0; SELECT count(*) FROM kept; VACUUM kept");
    server.sql("postgres", "SELECT count(*) FROM seen; DELETE FROM seen WHERE id % 2 = 0; VACUUM seen");
}

/// Several sessions lock and change the same rows, which makes multixacts and locks of updated rows.
fn side_by_side(server: &Server) {
    let session = |number: u32| {
        format!(
            "DO $$ BEGIN FOR i IN 1..60 LOOP
               PERFORM 1 FROM seen WHERE id = 7000 + i % 20 FOR KEY SHARE;
               UPDATE seen SET note = note || '{number}' WHERE id = 7000 + (i * {number}) % 20;
               PERFORM 1 FROM seen WHERE id = 7100 + i FOR NO KEY UPDATE;
               INSERT INTO things (k, words) VALUES (i, 'session');
               PERFORM 1 FROM seen WHERE id = 7000 + i % 20 FOR KEY SHARE;
               COMMIT;
             END LOOP; END $$;"
        )
    };
    let held =
        "BEGIN; SELECT count(*) FROM (SELECT 1 FROM seen WHERE id < 400 FOR KEY SHARE) x; SELECT pg_sleep(1); COMMIT;";
    let updates = "BEGIN; SELECT count(*) FROM (SELECT 1 FROM seen WHERE id < 400 FOR KEY SHARE) x;
                   UPDATE seen SET note = 'under a lock' WHERE id < 300; SELECT pg_sleep(0.3); COMMIT;";
    let follows = "BEGIN; SELECT pg_sleep(0.2);
                   SELECT count(*) FROM (SELECT 1 FROM seen WHERE id < 300 FOR KEY SHARE) x; COMMIT;";
    std::thread::scope(|scope| {
        for statements in [session(1), session(3), session(7), held.into(), updates.into(), follows.into()] {
            // A deadlock between the sessions is work like any other.
            scope.spawn(move || drop(server.psql("postgres", &statements)));
        }
    });
}

fn compressed(server: &Server) {
    let ways: &[&str] = if server.installation.major >= 15 { &["pglz", "lz4", "zstd", "off"] } else { &["on", "off"] };
    for way in ways {
        // An installation may lack a way to compress.
        drop(server.psql("postgres", &format!("ALTER SYSTEM SET wal_compression = {way}")));
        server.sql("postgres", "SELECT pg_reload_conf(); SELECT pg_sleep(0.1); CHECKPOINT");
        server.sql("postgres", "UPDATE things SET k = k + 1 WHERE id % 17 = 0; SELECT count(*) FROM things");
    }
}

fn tablespaces(server: &Server) {
    let place = server.directory("short-lived");
    server.sql("postgres", &format!("CREATE TABLESPACE short_lived LOCATION '{}'", place.display()));
    server.sql(
        "postgres",
        r"
CREATE TABLE guest TABLESPACE short_lived AS SELECT generate_series(1, 500) AS n;
ALTER TABLE moving SET TABLESPACE space;
UPDATE far SET note = 'near' WHERE id % 30 = 0;
ALTER TABLE far SET TABLESPACE pg_default;
DROP TABLE guest;
",
    );
    server.sql("postgres", "CHECKPOINT");
    server.sql("postgres", "DROP TABLESPACE short_lived");
}

fn databases(server: &Server) {
    let ways: &[&str] =
        if server.installation.major >= 15 { &[" STRATEGY wal_log", " STRATEGY file_copy"] } else { &[""] };
    for (number, way) in ways.iter().enumerate() {
        server.sql("postgres", &format!("CREATE DATABASE copy_{number} TEMPLATE older{way}"));
        server.sql(&format!("copy_{number}"), "INSERT INTO kept SELECT generate_series(1, 3000)");
    }
    server.sql("postgres", "CREATE DATABASE brief");
    server.sql("postgres", "DROP DATABASE brief");
    server.sql("postgres", "DROP DATABASE leaving");
    server.sql("postgres", "ALTER DATABASE copy_0 SET TABLESPACE space");
    server.sql("copy_0", "UPDATE kept SET n = n + 1 WHERE n % 9 = 0");
}
