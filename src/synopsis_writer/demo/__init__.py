"""Demo drafts without a key."""
