"""A plan as a terminal shows it."""

import io
from collections.abc import Callable, Iterable, Sequence

from rich.console import Console
from rich.table import Table

from ..networks.unet import UNet
from ..reporting.wording import counted, listed, number
from .calibration import Calibration
from .networks import PlannedTraining
from .parts import Part
from .plan import Plan

KINDS = {"switch_search": "search", **dict.fromkeys(("switch_curves", "multistage", "evaluation"), "evaluation")}
DEVICES = {"cpu": "CPU", "cuda": "GPU", "mps": "GPU"}
WIDEST = 200
WIDTH = 110


def plan_text(plan: Plan, env: str) -> str:
    """Plain text."""
    buffer = io.StringIO()
    console = Console(file=buffer, width=WIDEST, color_system=None, highlight=False, markup=False, emoji=False)

    def say(text: str) -> None:
        console.print(text, width=WIDTH)

    say(f"{plan.experiment}: what `kedro run --env {env}` comes to. Nothing has been run.")
    say(_images_text(plan))
    if plan.images is not None:
        for table in (_networks_table(plan), _parts_table(plan)):
            console.print()
            console.print(table)
        console.print()
        for text in (*_times_texts(plan), *_memory_texts(plan), *_disk_texts(plan)):
            say(text)
    for what, items in (("Missing", plan.missing), ("Taken for granted", plan.assumed)):
        if items:
            say(f"{what}:")
            for item in items:
                say(f"- {item}")
    if plan.images is not None and not plan.missing:
        say("Missing: nothing.")
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _images_text(plan: Plan) -> str:
    if plan.images is None:
        return "Images: not even their shape is known, so nothing can be counted."
    shape, latents = _times(plan.images.train.shape_chw), ""
    if plan.images.latents is not None:
        latents = f", as latents of {_times(plan.images.latents.shape_chw)}"
    n_train, n_held_out = (
        "an unknown number of" if n is None else f"{n:,}" for n in (plan.images.n_train, plan.images.n_held_out)
    )
    return f"Images: {n_train} for training and {n_held_out} held out, of {shape}{latents}."


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], text: int) -> Table:
    """text: so many first columns, and the last one, are of text; the others hold numbers."""
    table = Table(box=None, pad_edge=False, header_style="")
    for i, column in enumerate(columns):
        of_text = i < text or i == len(columns) - 1
        table.add_column(column, justify="left" if of_text else "right", no_wrap=True, vertical="bottom")
    for row in rows:
        table.add_row(*row)
    return table


def _networks_table(plan: Plan) -> Table:
    rows = [
        (
            one.name,
            f"{one.stored.parameters:,}",
            _macs_text(one),
            "" if one.new is None else f"{one.steps:,} of {one.batch_images}",
            _state(one),
        )
        for one in plan.networks.trainings.values()
    ]
    columns = ("network", "parameters", "GMACs an evaluation", "steps and images each", "")
    return _table(columns, rows, 1)


def _macs_text(one: PlannedTraining) -> str:
    module = one.stored.module
    if isinstance(module, UNet):
        return ", ".join(number(stage.macs / 1e9) for stage in module.stages)
    macs: int = module.macs  # type: ignore[assignment]
    return number(macs / 1e9)


def _state(one: PlannedTraining) -> str:
    if one.new is None:
        return "taken from a file"
    if one.finished:
        return "finished"
    return f"goes on at step {one.done_steps:,}" if one.done_steps else ""


def _parts_table(plan: Plan) -> Table:
    rows = [
        (part.pipeline, part.what, _gmacs_text(part), _part_seconds(part, seconds), part.note)
        for part, seconds in plan.parts
    ]
    return _table(("part", "", "GMACs", "time left", ""), rows, 2)


def _gmacs_text(part: Part) -> str:
    """Nothing of features, whose multiply-accumulates are not counted."""
    return "" if part.gmacs == 0 else _or_unknown(part.gmacs, number)


def _part_seconds(part: Part, seconds: float | None) -> str:
    if part.finished:
        return "finished"
    return _or_unknown(seconds, seconds_text)


def _or_unknown(value: float | None, text: Callable[[float], str]) -> str:
    return "unknown" if value is None else text(value)


def _times_texts(plan: Plan) -> list[str]:
    calibration = plan.calibration
    assert calibration is not None
    texts = [
        f"In all {_sum_text(plan.parts)} left: "
        + "; ".join(f"{name} {_sum_text(parts)}" for name, parts in _by_kind(plan).items())
        + ".",
        f"Times are those of this {DEVICES[plan.device]}{_shared_text(plan)}, with what else it does now, "
        f"{_measured_text(calibration)}. Trainings go on where they stand; all else is counted whole, though a run "
        "takes over what was measured before.",
    ]
    texts.append(f"Not counted: {listed(plan.not_counted)}.")
    if plan.images is not None and plan.images.latents is not None:
        texts.append("Decoding of latents is in the times, and not in the GMACs.")
    return texts


def _shared_text(plan: Plan) -> str:
    devices = plan.parameters.hardware.devices
    return f", shared evenly by {devices} processes" if devices > 1 else ""


def _by_kind(plan: Plan) -> dict[str, list[tuple[Part, float | None]]]:
    """Parts by what a person asks after."""
    kinds: dict[str, list[tuple[Part, float | None]]] = {"training": [], "search": [], "evaluation": [], "the rest": []}
    for part, seconds in plan.parts:
        kinds["training" if part.training else KINDS.get(part.pipeline, "the rest")].append((part, seconds))
    return kinds


def _sum_text(parts: Sequence[tuple[Part, float | None]]) -> str:
    """GMACs and the time that is left, of all parts of which they are known."""
    gmacs = [part.gmacs for part, _ in parts if part.gmacs is not None]
    seconds = [seconds for _, seconds in parts if seconds is not None]
    time = seconds_text(sum(seconds))
    if len(seconds) < len(parts):
        time = f"more than {time}" if seconds else "an unknown time"
    return f"{number(sum(gmacs))} GMACs, {time}"


def _measured_text(calibration: Calibration) -> str:
    """At how many images."""
    images = [speed.images for speed in calibration.speeds.values()]
    tried = [step.images for step in calibration.steps.values() if step.images]
    guessed = [name for name, step in calibration.steps.items() if not step.images]
    texts = [f"measured in {calibration.seconds:.0f} s: evaluations of {_range_text(images)} each"]
    if tried:
        texts.append(f"training steps of {_range_text(tried)}")
    if calibration.feature_seconds is not None:
        texts.append("features of random images")
    said = f"{', '.join(texts)}, and more of them in proportion"
    if guessed:
        return f"{said}; training of {listed(guessed)} was too large to try, and is taken for evaluations of its cost"
    return said


def _range_text(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return counted(high, "image") if low == high else f"{low} to {high} images"


def _memory_texts(plan: Plan) -> list[str]:
    texts = []
    if (held := plan.training_memory()) is not None:
        one, weights, images, activations = held
        kept = ""
        if activations:
            kept = f", and up to {bytes_text(activations)} kept of {counted(images, 'image')} for the gradients"
            kept += " (less with gradient_checkpointing)" if plan.parameters.hardware.gradient_checkpointing else ""
        texts.append(
            f"Memory of training, {one.name} most: {bytes_text(weights)} for weights, gradients, AdamW and averages"
            f"{kept}, in float32."
        )
    texts.append(
        f"Memory of timestep_clustering: {bytes_text(plan.gradients_bytes())} for gradients of the deep network."
    )
    networks, block, starts = plan.sampling_memory()
    texts.append(
        f"Memory of sampling: {bytes_text(networks)} for all networks together, {bytes_text(block)} for the images of "
        f"a block, and at most {bytes_text(starts)} for what plans share. "
        f"{bytes_text(plan.free_memory_bytes)} are free."
    )
    return texts


def _disk_texts(plan: Plan) -> list[str]:
    packs = plan.pack_bytes()
    needed = [
        f"image packs {'unknown' if packs is None else bytes_text(packs)}",
        f"checkpoints {bytes_text(plan.checkpoint_bytes())}",
        f"networks {bytes_text(plan.network_bytes())}",
        f"results and, while it searches, features at most {bytes_text(plan.result_bytes())}",
    ]
    return [f"Disk: {', '.join(needed)}. {bytes_text(plan.free_disk_bytes)} are free."]


def seconds_text(seconds: float) -> str:
    """Two digits or so, in the unit that a person would take."""
    for size, unit in ((365 * 86400, "years"), (86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{_short(seconds / size)} {unit}"
    return f"{_short(seconds)} s"


def bytes_text(count: float) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{_short(count / size)} {unit}"
    return f"{count:.0f} B"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
