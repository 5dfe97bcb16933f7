"""How long a row of like things, such as measurements, still takes, told once a minute."""

import logging
import time
from collections.abc import Sequence

logger = logging.getLogger(__name__)

TOLD_EVERY_SECONDS = 60


class Progress:
    """costs: of what is done, in its order and any unit; 0 of what was done before. said: what it is then."""

    def __init__(self, costs: Sequence[float], said: str = "measured") -> None:
        self._costs, self._said = costs, said
        self._measured, self._done = 0, 0.0
        self._started = self._told = time.monotonic()

    def advance(self) -> None:
        """One more is done."""
        self._done += self._costs[self._measured]
        self._measured += 1
        if self._done and (now := time.monotonic()) - self._told > TOLD_EVERY_SECONDS:
            self._told, left = now, (now - self._started) / self._done * (sum(self._costs) - self._done)
            logger.info("%d of %d %s, about %.0f s left", self._measured, len(self._costs), self._said, left)
