"""A house learnt from a folder of texts, and proven on them."""
