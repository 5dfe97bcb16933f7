"""Equal parts of a batch."""

from ..errors import InputError
from .batches import Batch


def share_of(batch: Batch, i: int, count: int) -> Batch:
    """The i-th of `count` equal runs of a batch's images; raises InputError where they cannot be equal."""
    if count == 1:
        return batch
    images = len(batch.timesteps)
    if images % count:
        raise InputError(f"{images} images have no {count} equal parts")
    part = slice(i * images // count, (i + 1) * images // count)
    return Batch._make(None if each is None else each[part] for each in batch)
