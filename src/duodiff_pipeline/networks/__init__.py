"""Networks: what predicts noise, how it is stored, and what it costs."""

from .official import import_checkpoint

__all__ = ["import_checkpoint"]
