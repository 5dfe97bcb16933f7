"""FID of sampling plans, block of images by block, each measured once by whichever process comes first."""

from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from ...diffusion.starts import SharedStarts
from ...errors import InputError
from ...files import load_tensors, save_tensors, sha256_of_json
from ...metrics.measure import Meter
from ...networks.plans import NetworkBank, SamplingPlan
from ...workdir import WorkDir

FEATURES = "features of generated images"
FEATURES_BYTES = 2**30  # of blocks whose plans may go on; beyond that the oldest are sampled again


class PlanMeter:
    """Measures plans with the same images and noise, after the blocks that end at `rungs`, the last one at n.

    What is measured stays in the work folder: FIDs for good, the features of a block until its plan has gone through
    all. So a plan that was given up goes on from where it was, and one that is proposed again costs nothing.
    """

    def __init__(
        self,
        meter: Meter,
        bank: NetworkBank,
        work: WorkDir,
        seed: int,
        rungs: tuple[int, ...],
        starts: SharedStarts,
        features_bytes: int = FEATURES_BYTES,
    ) -> None:
        self.rungs = rungs
        self._meter, self._bank, self._work, self._seed, self._starts = meter, bank, work, seed, starts
        self._features_bytes = features_bytes

    def fid(self, plan: SamplingPlan, n_images: int) -> float:
        """Of the first images, as many as one of `rungs` says."""
        key = sha256_of_json({"solver": plan.solver.to_dict(), "runs": plan.runs})[:16]
        with FileLock(self._work.folder / f"{key}.lock"):  # another process may come to the same plan
            fid: float = self._work.remember(f"{key}_{n_images}", lambda: self._measured(plan, key, n_images))
            if n_images == self.rungs[-1]:
                for path in self._work.folder.glob(f"{key}_*.safetensors"):
                    path.unlink(missing_ok=True)
        return fid

    def _measured(self, plan: SamplingPlan, key: str, n_images: int) -> float:
        ends = [end for end in self.rungs if end <= n_images]
        blocks = [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        features = np.concatenate([self._features(plan, key, block) for block in blocks])
        self._forget_oldest()
        return self._meter.fid(features)

    def _features(self, plan: SamplingPlan, key: str, block: range) -> NDArray[np.float32]:
        """(len(block), D), from the file of an earlier rung where there is one."""
        path = self._work.folder / f"{key}_{block.start}.safetensors"
        try:
            return load_tensors(path, FEATURES)[1]["features"].numpy()
        except InputError:
            if path.is_file():  # it is damaged
                raise
        start = self._starts.of(self._bank.served_by(plan))
        images, _ = self._meter.generate(self._bank.denoiser(plan), plan.solver, self._seed, block, start)
        features = self._meter.features(images)
        save_tensors(path, FEATURES, {}, {"features": torch.from_numpy(features)})
        return features

    def _forget_oldest(self) -> None:
        """Keep the newest features that the bound allows; another process may do the same at the same time."""
        newest_first = sorted(self._work.folder.glob("*.safetensors"), key=_written, reverse=True)
        kept = 0
        for path in newest_first:
            size = path.stat().st_size if path.is_file() else 0
            kept += size
            if kept > self._features_bytes:
                path.unlink(missing_ok=True)


def _written(path: Path) -> float:
    return path.stat().st_mtime if path.is_file() else 0.0
