CREATE TABLE total (bytes INTEGER NOT NULL);
INSERT INTO total SELECT coalesce(sum(bytes), 0) FROM answers
