-- `asked` holds the rows of the open shards, `waiting` the queue of repairs.
CREATE TABLE shards (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, server TEXT NOT NULL, digest TEXT NOT NULL,
    requests INTEGER NOT NULL, worst_tokens INTEGER NOT NULL, worst_amount TEXT, worst_currency TEXT,
    file TEXT, tried REAL, batch TEXT, status TEXT NOT NULL DEFAULT 'written',
    done INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, expires REAL,
    is_open INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE asked (
    shard INTEGER NOT NULL, place INTEGER NOT NULL, line INTEGER NOT NULL, round INTEGER NOT NULL,
    flaw TEXT NOT NULL, returns INTEGER NOT NULL, is_read INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (shard, place)
) WITHOUT ROWID;
CREATE INDEX asked_by_place ON asked (place);
CREATE TABLE waiting (
    place INTEGER PRIMARY KEY, round INTEGER NOT NULL, flaw TEXT NOT NULL, returns INTEGER NOT NULL
)
