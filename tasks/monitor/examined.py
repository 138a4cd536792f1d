"""What one look compared and decided, for whoever acts on it or tells of it."""

from dataclasses import dataclass

import numpy as np

from bento.audit_records import Item
from tasks.monitor.decide import Decision
from tasks.monitor.reference import Reference
from tasks.monitor.traffic import Watched
from tasks.monitor.window import Window
from tasks.monitor.witness import witness


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What one look compared, and what follows from it."""

    watched: Watched
    decision: Decision
    reference: Reference
    window: Window

    def drifted(self) -> list[Item]:
        """The window's rows that the reference has least like, the most telling first."""
        if not len(self.window):
            return []
        order = np.argsort(-witness(self.reference, self.window), kind="stable")
        return [self.window.items[at] for at in order]
