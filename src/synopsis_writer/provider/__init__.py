"""The provider's batch interface."""
