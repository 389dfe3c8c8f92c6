CREATE TABLE variety_texts (
    number INTEGER PRIMARY KEY, row TEXT NOT NULL UNIQUE, show TEXT NOT NULL, title TEXT NOT NULL,
    opening TEXT NOT NULL, people TEXT NOT NULL, marks BLOB NOT NULL
);
CREATE INDEX variety_by_show ON variety_texts (show);
CREATE INDEX variety_by_title ON variety_texts (title);
CREATE INDEX variety_by_opening ON variety_texts (opening);
CREATE TABLE variety_names (
    name TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (name, number)
) WITHOUT ROWID
