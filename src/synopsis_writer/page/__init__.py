"""The editor's page: a server on this machine, and what a browser gets from it."""
