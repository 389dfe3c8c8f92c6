CREATE TABLE answers (
    key TEXT PRIMARY KEY, kept REAL NOT NULL, bytes INTEGER NOT NULL,
    text TEXT NOT NULL, finish TEXT NOT NULL, model TEXT NOT NULL
);
CREATE INDEX answers_by_age ON answers (kept)

DROP INDEX answers_by_age;
CREATE INDEX answers_by_age ON answers (kept, bytes)

CREATE TABLE total (bytes INTEGER NOT NULL);
INSERT INTO total SELECT coalesce(sum(bytes), 0) FROM answers
