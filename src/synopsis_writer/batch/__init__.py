"""Many rows: briefs in from a file, written under limits into one record, and out again as files."""
