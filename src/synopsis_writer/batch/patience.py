"""How long a crew waits."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How long a crew waits, in seconds.

    Attributes:
        cpu: without any worker, until the batch ends.
        place: before a place is given to another worker.
        look: between two looks whether the cluster's head answers.
        head: without an answer of it, until the batch ends; twice that, and nothing in flight is waited for.
    """

    cpu: float = 60.0
    place: float = 1.0
    look: float = 5.0
    head: float = 20.0


PATIENCE = Patience()
