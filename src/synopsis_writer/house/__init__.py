"""A house: how one newsroom writes."""
