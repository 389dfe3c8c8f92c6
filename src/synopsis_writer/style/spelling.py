"""The check of spelling: words that no list of German knows, nor their inflection or parts explain."""

import re

from synopsis_writer.style.finding import Finding, Subject, failed, passed, quoted
from synopsis_writer.style.lexicon import is_known
from synopsis_writer.style.names import given_words
from synopsis_writer.style.text import Word

# Distinct unknown words for each running word. The 61 good texts have at most 0.7 %, half of them
# none; the same texts with a typing error in every twentieth word have 2.5 % in the middle.
UNKNOWN_SHARE = 0.012
_HYPHEN = re.compile(r"[-’'‐‑]")


def spelling(subject: Subject) -> Finding:
    """Few words are known to nobody: distinct unknown ones for each running word, names aside."""
    unknown = ungiven_words(subject)
    share = len({word.lower for word in unknown}) / max(1, len(subject.text.words))
    limit = f"at most {UNKNOWN_SHARE:.1%} unknown words"
    if share <= UNKNOWN_SHARE:
        return passed("spelling", share, limit, f"{share:.1%} of the words are unknown.")
    message = f"{share:.1%} of the words are unknown: {quoted([word.form for word in unknown])}."
    return failed("spelling", share, limit, message, [word.span for word in unknown])


def ungiven_words(subject: Subject) -> list[Word]:
    """Return the words that are neither given by brief and show nor known; of hyphenated ones every part."""
    given = given_words(subject)
    forms = {
        form
        for form in subject.text.counts
        if form not in given and not all(part in given or is_known(part) for part in _HYPHEN.split(form))
    }
    return [word for word in subject.text.words if word.lower in forms]
