"""The kinds of text, and the kinds of file: what flags choose from."""

from enum import StrEnum


class Form(StrEnum):
    """The kind of text."""

    EPISODE = "episode"
    TEASER = "teaser"
    SPECIAL = "special"
    WEEK = "week"
    PORTRAIT = "portrait"

    @property
    def is_open(self) -> bool:
        """Whether the text ends on a question instead of a close."""
        return self in {Form.TEASER, Form.WEEK, Form.PORTRAIT}


class CacheUse(StrEnum):
    """What a command does with kept answers: give them again, only keep them, or neither."""

    READ = "read"
    WRITE = "write"
    OFF = "off"


class ExportFormat(StrEnum):
    """What an eval run is exported as."""

    JSONL = "jsonl"
    CSV = "csv"
    JUNIT = "junit"
    INSPECT = "inspect"


class Retry(StrEnum):
    """Which rows of a batch are made again."""

    REFUSED = "refused"
    FAILED = "failed"


class BatchFormat(StrEnum):
    """What a batch is exported as."""

    MARKDOWN = "md"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class Engine(StrEnum):
    """Where the rows of a batch are made: in this process, or by workers on a cluster."""

    LOCAL = "local"
    RAY = "ray"


class Switch(StrEnum):
    """Whether something is done."""

    ON = "on"
    OFF = "off"
