"""A gate that also holds a text against the other rows of its batch."""

from synopsis_writer.batch.variety import CHECKS, Variety
from synopsis_writer.brief import Brief
from synopsis_writer.settings import Settings
from synopsis_writer.shows import Show
from synopsis_writer.style.finding import Finding
from synopsis_writer.synopsis import Synopsis
from synopsis_writer.writer import Examiner


class VariedGate:
    """Examines by a gate, and by what the batch's accepted texts leave free; a repair is told both.

    Args:
        gate: the gate.
        variety: the accepted texts.
    """

    def __init__(self, gate: Examiner, variety: Variety) -> None:
        self._gate = gate
        self._variety = variety

    async def examine(
        self, synopsis: Synopsis, brief: Brief, show: Show, *, was_cut: bool = False
    ) -> tuple[Finding, ...]:
        """Return one finding a check."""
        found = self._gate.examine(synopsis, brief, show, was_cut=was_cut)
        findings = found if isinstance(found, tuple) else await found
        return (*findings, *self._variety.find(synopsis, show, brief))


def for_gate(settings: Settings) -> Settings:
    """Return the settings without the disabled checks of variety: a gate knows none of them."""
    disable = tuple(name for name in settings.disable if name not in CHECKS)
    return settings.model_copy(update={"disable": disable})
