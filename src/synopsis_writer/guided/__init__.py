"""The guided strategy: whole sentences from a scaffold, short gaps filled by the packaged model."""
