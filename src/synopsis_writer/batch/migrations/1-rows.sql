CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE rows (
    place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, brief TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending', reason TEXT, synopsis TEXT, origin TEXT,
    attempts INTEGER NOT NULL DEFAULT 0, prompt_tokens INTEGER NOT NULL DEFAULT 0,
    cached_tokens INTEGER NOT NULL DEFAULT 0, completion_tokens INTEGER NOT NULL DEFAULT 0,
    amount TEXT, currency TEXT, seconds REAL NOT NULL DEFAULT 0, is_unpriced INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX rows_by_status ON rows (status, place);
CREATE TABLE answers (
    row TEXT NOT NULL, number INTEGER NOT NULL, passed INTEGER NOT NULL, problems TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX answers_by_row ON answers (row)
