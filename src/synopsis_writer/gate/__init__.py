"""The gate: pure functions over a text analysed once."""
