-- Behind the texts, these columns would cost a start the reading of the whole file.
CREATE INDEX rows_by_figures ON rows (
    status, id, amount, currency, prompt_tokens, completion_tokens, cached_tokens, seconds, is_unpriced
)
