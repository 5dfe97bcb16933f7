"""FID of every single switch between the shallow and the deep network, and of controls at the same cost."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ...config import Evaluation, HardwareSettings, Noise, Sampling, SwitchCurves
from ...diffusion.noise import NoiseSchedule
from ...diffusion.stages import StageSchedule
from ...diffusion.starts import SharedStarts
from ...images.examples import Examples
from ...metrics.extractor import FeatureExtractor
from ...metrics.reference import ReferenceStatistics
from ...networks.controls import plan_name, reversed_order, throughout
from ...networks.files import StoredNetwork
from ...networks.plans import NetworkBank, SamplingPlan
from ...reporting.curves import measured_with
from ...workdir import WorkDir
from ..measuring import STARTS_BYTES, make_meter, move_to_device
from ..progress import Progress

CODE = ["config/search.py", "diffusion", "metrics", "networks", "pipelines/switch_curves"]
SHALLOW, MIDDLE, DEEP = "shallow", "middle", "deep"
ROLES = {
    (SHALLOW,): "shallow",
    (MIDDLE,): "middle",
    (DEEP,): "deep",
    (SHALLOW, DEEP): "duodiff",
    (DEEP, SHALLOW): "reversed",
}


def measure_curves(
    settings: SwitchCurves,
    evaluation: Evaluation,
    extractor: FeatureExtractor,
    reference: ReferenceStatistics,
    held_out: Examples,
    noise: Noise,
    sampling: Sampling,
    hardware: HardwareSettings,
    work_folder: Path,
    backbones: Mapping[str, str] | None = None,
    **networks: StoredNetwork,
) -> pd.DataFrame:
    """One row a plan and seed block of the evaluation.

    networks: shallow, deep, middle where there is a control of middle depth, and those trained for the first stage by
    their own names; backbones: what each is called in the parameters, where that is another name. Columns: plan, role
    (a value of `ROLES`, or the name of who serves the first stage), solver, steps, k (missing where one network serves
    all), gmacs an image, seed, fid, measured_with.
    """
    bank = curve_bank(networks, backbones or {}, sampling)
    move_to_device(hardware, *networks.values())
    meter = make_meter(extractor, reference, held_out, evaluation.images, noise, sampling, hardware)
    parameters = {
        "n_images": meter.n_images,
        "noise": noise.model_dump(),
        "sampling": sampling.model_dump(),
        "hardware": hardware.of_sampling,
    }
    inputs = {**{name: network.sha256 for name, network in networks.items()}, "reference": reference.sha256}
    inputs["held_out"] = held_out.sha256
    work = WorkDir(work_folder, "switch_curves", parameters, inputs, CODE)
    plans = curve_plans(settings, bank, noise.schedule())
    wanted = [(_key(plan, seed), plan, seed) for seed in evaluation.seeds for plan in plans]
    gmacs = {plan.name: bank.static_gmacs(plan) for plan in plans}
    # as if no start were shared: a little too much, so that nobody is told too little
    progress = Progress([0.0 if work.remembers(key) else gmacs[plan.name] for key, plan, _ in wanted])
    starts = SharedStarts(STARTS_BYTES)
    rows = []
    for key, plan, seed in wanted:

        def measure(plan: SamplingPlan = plan, seed: int = seed) -> float:
            return meter.measure(bank.denoiser(plan), plan.solver, seed, starts.of(bank.served_by(plan))).fid

        rows.append(
            {
                "plan": plan.name,
                "role": role_of(plan),
                "solver": plan.solver.name,
                "steps": plan.solver.steps,
                "k": plan.switch,
                "gmacs": gmacs[plan.name],
                "seed": seed,
                "fid": work.remember(key, measure),
            }
        )
        progress.advance()
    identities = {name: network.sha256 for name, network in networks.items()}
    identity = measured_with(identities, reference.sha256, meter.n_images, bank.guidance)
    return pd.DataFrame(rows).astype({"k": "Int64"}).assign(measured_with=identity)


def curve_names(shallow: str, deep: str, middle: str | None, first_stage: Sequence[str]) -> dict[str, str]:
    """The backbones of the curves, by what they are called there."""
    names = {"shallow": shallow, "deep": deep, **({"middle": middle} if middle else {})}
    return names | {name: name for name in first_stage}


def curve_bank(networks: Mapping[str, StoredNetwork], backbones: Mapping[str, str], sampling: Sampling) -> NetworkBank:
    """networks, backbones: see `measure_curves`."""
    called = {name: backbones.get(name, name) for name in networks}
    scale = sampling.guidance_by(called.values())
    return NetworkBank(networks, guidance={name: scale[backbone] for name, backbone in called.items()})


def curve_plans(settings: SwitchCurves, bank: NetworkBank, noise: NoiseSchedule) -> list[SamplingPlan]:
    """Every switch of every solver, and the controls of some; each plan once."""
    plans = []
    for solver in settings.solvers():
        grid = solver.grid(noise)
        switched = [
            SamplingPlan("", solver, StageSchedule.from_switch(k, grid, (SHALLOW, DEEP), noise).serving(grid))
            for k in solver.switches
        ]
        plans += switched
        for name, lowest in _first_stage_only(bank).items():
            plans += [
                SamplingPlan("", solver, StageSchedule.from_switch(k, grid, (name, DEEP), noise).serving(grid))
                for k in solver.switches
                if k and grid[k - 1] >= lowest
            ]
        for at in np.unique(np.linspace(1, len(switched) - 2, settings.controls).round().astype(int)):
            plans.append(reversed_order(switched[at]))
            plans += [throughout("", name, switched[at], bank) for name in (DEEP, MIDDLE) if name in bank.backbones]
    named = (replace(p, name=plan_name(role_of(p), p.solver, p.switches)) for p in plans)
    return list({plan.name: plan for plan in named}.values())


def _first_stage_only(bank: NetworkBank) -> dict[str, float]:
    """The backbones that learnt only the noisy end of the timesteps, with the first timestep of it."""
    return {name: low for name, stored in bank.backbones.items() if (low := stored.header.timestep_range[0])}


def role_of(plan: SamplingPlan) -> str:
    return ROLES.get(plan.schedule.serves, plan.schedule.serves[0])


def _key(plan: SamplingPlan, seed: int) -> str:
    return f"{plan.name.replace(' ', '_')}_{seed}"
