"""Files, SQLite and arrays on disk."""
