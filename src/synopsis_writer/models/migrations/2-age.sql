DROP INDEX answers_by_age;
CREATE INDEX answers_by_age ON answers (kept, bytes)
