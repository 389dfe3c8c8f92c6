CREATE TABLE answers (
    key TEXT PRIMARY KEY, kept REAL NOT NULL, bytes INTEGER NOT NULL,
    text TEXT NOT NULL, finish TEXT NOT NULL, model TEXT NOT NULL
);
CREATE INDEX answers_by_age ON answers (kept)
