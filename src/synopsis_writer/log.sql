CREATE TABLE runs (
    id TEXT PRIMARY KEY, command TEXT NOT NULL, created TEXT NOT NULL, outcome TEXT NOT NULL,
    error TEXT, path TEXT, brief TEXT NOT NULL, outline TEXT, model TEXT NOT NULL, server TEXT,
    rounds INTEGER NOT NULL, best_of INTEGER NOT NULL,
    prompt TEXT, version TEXT, prompt_hash TEXT, examples TEXT NOT NULL
);
CREATE TABLE prompts (hash TEXT PRIMARY KEY, messages TEXT NOT NULL);
CREATE TABLE attempts (
    run TEXT NOT NULL REFERENCES runs ON DELETE CASCADE, place INTEGER NOT NULL,
    number INTEGER NOT NULL, messages TEXT REFERENCES prompts, answer TEXT NOT NULL,
    finish TEXT NOT NULL, model TEXT NOT NULL, passed INTEGER NOT NULL, problems TEXT NOT NULL,
    findings TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL, amount TEXT, currency TEXT,
    is_kept INTEGER NOT NULL, words_by_model INTEGER,
    PRIMARY KEY (run, place)
);
CREATE INDEX attempts_by_messages ON attempts (messages)

ALTER TABLE attempts ADD COLUMN repeat INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN is_longer INTEGER NOT NULL DEFAULT 0

ALTER TABLE attempts ADD COLUMN written_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN thinking_tokens INTEGER NOT NULL DEFAULT 0

ALTER TABLE runs ADD COLUMN lost TEXT

CREATE TABLE versions (
    text TEXT NOT NULL, number INTEGER NOT NULL, parent INTEGER, created TEXT NOT NULL,
    maker TEXT NOT NULL, model TEXT, run TEXT, request TEXT NOT NULL, path TEXT NOT NULL,
    hash TEXT NOT NULL, content TEXT,
    PRIMARY KEY (text, number)
);
CREATE INDEX versions_by_run ON versions (run);
CREATE INDEX versions_by_hash ON versions (hash);
CREATE INDEX versions_by_path ON versions (path)

ALTER TABLE runs ADD COLUMN house TEXT;
ALTER TABLE runs ADD COLUMN avoid TEXT

ALTER TABLE attempts ADD COLUMN is_review INTEGER NOT NULL DEFAULT 0
