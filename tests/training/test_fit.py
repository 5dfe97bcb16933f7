"""Trainings of a tiny network for a few steps, killed, resumed and watched."""

import logging
import math
import zipfile

import pytest
import torch

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.images.pack import ImagePack
from duodiff_pipeline.networks.exit_schedule import ExitSchedule
from duodiff_pipeline.training.batches import StepBatches
from duodiff_pipeline.training.exit_schedules import ExitScheduleTraining
from duodiff_pipeline.training.fit import Fitted, Hardware, fit
from duodiff_pipeline.training.modules import EarlyExitTraining, NoisePrediction
from duodiff_pipeline.training.optimisation import Optimisation

STEPS = 20
PIXELS = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = ImagePack(PIXELS, torch.zeros(30, dtype=torch.int64), "", "train", "")


class KilledError(Exception):
    pass


class Observer:
    def __init__(self):
        self.losses, self.images = {}, {}

    def log_metrics(self, values, step):
        self.losses[step] = values["loss"]

    def log_images(self, name, images_u8, step):
        self.images[step] = (name, images_u8)


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()]).clone()


class Recorded:
    """Mixed into a training: notes what every step saw and left, and fails at the step that it is told."""

    killed_at = nan_at = breaks_at = None

    def on_fit_start(self):
        super().on_fit_start()
        self.timesteps, self.step_losses, self.rates, self.weights, self.averages, self.gradient_norms = (
            [] for _ in range(6)
        )

    def training_step(self, batch, batch_idx):
        step = self.global_step + 1
        if step == self.killed_at:
            raise KilledError
        loss = super().training_step(batch, batch_idx) * (math.nan if step == self.nan_at else 1)
        self.timesteps.append(batch.timesteps.tolist())
        self.step_losses.append(loss.item())
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        return loss

    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)
        if self.global_step + 1 == self.breaks_at:
            torch.nn.init.constant_(next(self.raw.parameters()), math.inf)
        self.weights.append(flat(self.raw))
        self.averages.append(flat(self.ema.module))
        gradients = [p.grad.flatten() for p in self.raw.parameters() if p.grad is not None]
        self.gradient_norms.append(torch.cat(gradients).norm().item())


class RecordedPrediction(Recorded, NoisePrediction):
    pass


class RecordedExits(Recorded, EarlyExitTraining):
    pass


class RecordedSchedule(Recorded, ExitScheduleTraining):
    pass


def optimisation(**changes) -> Optimisation:
    options = {
        "steps": STEPS,
        "learning_rate": 1e-2,
        "warmup_steps": 4,
        "weight_decay": 0.01,
        "adam_betas": (0.9, 0.99),
    }
    return Optimisation(**{**options, "clip_norm": 1.0, "ema_decay": 0.7, **changes})


@pytest.fixture
def make_training(make_uvit, noise):
    def make(**changes) -> RecordedPrediction:
        return RecordedPrediction(make_uvit().train().requires_grad_(True), noise, optimisation(**changes))

    return make


@pytest.fixture
def make_exit_training(make_uvit, make_exits, noise):
    def make(**changes) -> RecordedExits:
        network = make_uvit().requires_grad_(True)
        exits = make_exits(network).train().requires_grad_(True)
        return RecordedExits(exits, network, noise, optimisation(**changes))

    return make


@pytest.fixture
def make_schedule_training(make_uvit, noise):
    def make(**changes) -> RecordedSchedule:
        network = make_uvit().train().requires_grad_(True)
        return RecordedSchedule(network, ExitSchedule((3, 2), noise), "uniform", noise, optimisation(**changes))

    return make


@pytest.fixture
def run(tmp_path):
    def run(training, folder="work", every=5, precision="32-true", observer=None, draw=None, until=None) -> Fitted:
        batches = StepBatches(IMAGES, (0, 1000), 4, training.optimisation.steps, seed=3)
        hardware = Hardware("cpu", 1, precision)
        observer = observer or Observer()
        return fit(training, batches, hardware, tmp_path / folder, every, observer, 6, draw, until=until)

    return run


def assert_same_training(a, b) -> None:
    """Raw weights, averages and everything else that checkpoints hold, bit for bit."""
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, tensor in a.state_dict().items():
        assert torch.equal(tensor, b.state_dict()[name]), name


# a checkpoint every 5 steps: killed before the first, in the first half, in the second, and just after one
@pytest.mark.parametrize(("killed_at", "goes_on_at"), [(4, 0), (6, 5), (9, 5), (14, 10), (20, 15)])
@pytest.mark.parametrize("kind", ["training", "exit_training", "schedule_training"])
def test_a_killed_training_goes_on_to_the_same_weights_average_and_losses(run, request, killed_at, goes_on_at, kind):
    make = request.getfixturevalue(f"make_{kind}")
    whole, killed, resumed = make(), make(), make()
    expected = run(whole, "whole")
    killed.killed_at = killed_at
    with pytest.raises(KilledError):
        run(killed)
    observer = Observer()
    found = run(resumed, observer=observer)
    assert (expected.first_step, len(whole.step_losses)) == (0, STEPS)
    assert (found.first_step, len(resumed.step_losses)) == (goes_on_at, STEPS - goes_on_at)
    assert resumed.timesteps == whole.timesteps[goes_on_at:]
    assert resumed.step_losses == whole.step_losses[goes_on_at:]
    assert resumed.rates == whole.rates[goes_on_at:]
    assert_same_training(resumed, whole)
    assert found.losses == expected.losses
    assert observer.losses == {step: loss for step, loss in expected.losses if step > goes_on_at}


def test_a_training_killed_twice_goes_on_twice(make_training, run):
    whole, last = make_training(), make_training()
    run(whole, "whole", every=3)
    for killed_at in (5, 8):
        killed = make_training()
        killed.killed_at = killed_at
        with pytest.raises(KilledError):
            run(killed, every=3)
    assert run(last, every=3).first_step == 6
    assert_same_training(last, whole)


@pytest.mark.parametrize("until", [5, 8])  # at a checkpoint, and between two
def test_a_training_that_stops_on_its_way_goes_on_as_if_it_had_not(make_training, run, until):
    whole, begun, again, ended = (make_training() for _ in range(4))
    expected = run(whole, "whole")
    run(begun, until=until)
    assert len(begun.step_losses) == until
    run(again, until=until)
    assert again.step_losses == []
    found = run(ended)
    assert (found.first_step, found.losses) == (until, expected.losses)
    assert ended.rates == whole.rates[until:]
    assert_same_training(ended, whole)


def test_a_finished_training_makes_no_step_again(make_training, run):
    first, again = make_training(), make_training()
    expected = run(first).losses
    assert run(again).losses == expected
    assert again.step_losses == []
    assert_same_training(again, first)


def test_a_training_depends_on_no_global_seed(make_training, run):
    trainings = [make_training(), make_training()]
    for seed, training in enumerate(trainings):
        torch.manual_seed(seed)
        run(training, f"work {seed}")
    assert_same_training(*trainings)


def test_training_lowers_the_loss(make_uvit, noise, run):
    training = RecordedPrediction(make_uvit().train().requires_grad_(True), noise, optimisation(steps=150))
    run(training, every=1000)
    assert sum(training.step_losses[-30:]) < 0.8 * sum(training.step_losses[:30])


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_average_follows_its_formula(make_training, run, decay):
    training = make_training(ema_decay=decay)
    run(training)
    average = training.weights[0].double()
    for i, weights in enumerate(training.weights):
        if i:
            d = min(decay, (1 + i) / (10 + i))
            average = d * average + (1 - d) * weights.double()
        torch.testing.assert_close(training.averages[i].double(), average, rtol=0, atol=1e-6)
    assert (training.averages[9] - training.weights[9]).abs().max() > 1e-3


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_average_of_a_fine_tuning_begins_at_the_loaded_weights(make_schedule_training, run, decay):
    training = make_schedule_training(ema_decay=decay)
    average = flat(training.raw).double()
    assert torch.equal(flat(training.ema.module).double(), average)
    run(training)
    for found, weights in zip(training.averages, training.weights, strict=True):
        average = decay * average + (1 - decay) * weights.double()
        torch.testing.assert_close(found.double(), average, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("warmup_steps", "schedule"), [(0, "cosine"), (1, "cosine"), (4, "constant"), (STEPS - 1, "cosine")]
)
def test_learning_rate_warms_up_linearly_and_falls_along_a_cosine_or_stays(make_training, run, warmup_steps, schedule):
    training = make_training(warmup_steps=warmup_steps, rate_schedule=schedule)
    run(training)
    for i, rate in enumerate(training.rates):
        if i < warmup_steps:
            start = 1 / warmup_steps
            share = start + (1 - start) * i / warmup_steps
        elif schedule == "constant":
            share = 1.0
        else:
            share = (1 + math.cos(math.pi * (i - warmup_steps) / (STEPS - warmup_steps))) / 2
        assert rate == pytest.approx(1e-2 * share, rel=1e-6)


def test_gradients_are_clipped_by_norm(make_training, run):
    free, clipped = make_training(clip_norm=None), make_training(clip_norm=0.01)
    run(free, "free")
    run(clipped, "clipped")
    assert min(free.gradient_norms) > 0.02
    assert clipped.gradient_norms == pytest.approx([0.01] * STEPS, rel=1e-3)


@pytest.mark.parametrize("killed_at", [None, 14])
def test_a_loss_that_is_not_finite_ends_with_its_step_and_keeps_the_last_checkpoint(
    make_training, run, tmp_path, killed_at
):
    training = make_training()
    if killed_at is not None:  # the same after a resume
        training.killed_at = killed_at
        with pytest.raises(KilledError):
            run(training)
        training = make_training()
    training.nan_at = 15  # a step whose checkpoint would be due
    with pytest.raises(InputError, match="the loss is nan at training step 15: lower the learning rate") as stopped:
        run(training)
    assert "\n" not in str(stopped.value)
    (kept,) = (tmp_path / "work").glob("*.ckpt")
    assert kept.name == "10.ckpt"
    state = torch.load(kept, weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in state.values())
    assert run(make_training()).first_step == 10


def test_weights_that_are_not_finite_are_not_kept(make_training, run, tmp_path):
    training = make_training()
    training.breaks_at = 15  # a step whose checkpoint would be due; its loss is finite
    with pytest.raises(InputError, match=r"weights are not finite after training step 15: .*10\.ckpt keeps the wei"):
        run(training)
    assert [path.name for path in (tmp_path / "work").glob("*.ckpt")] == ["10.ckpt"]


def test_the_last_step_must_leave_finite_weights_too(make_training, run):
    training = make_training()
    training.breaks_at = STEPS
    with pytest.raises(InputError, match=f"after training step {STEPS}: lower the learning rate; no weights had been"):
        run(training, every=1000)


def zip_with_a_flipped_bit(path):
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    content[largest.header_offset + largest.file_size] ^= 1  # its bytes begin a little after the header's offset
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        zip_with_a_flipped_bit,
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: torch.save({"state_dict": {}}, path),
        lambda path: torch.save([1], path),
        lambda path: path.write_text("text"),
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_named(make_training, run, tmp_path, damage):
    killed = make_training()
    killed.killed_at = 12
    with pytest.raises(KilledError):
        run(killed)
    (path,) = (tmp_path / "work").glob("*.ckpt")
    damage(path)
    with pytest.raises(InputError) as refusal:
        run(make_training())
    assert str(refusal.value) == f"{path} is damaged or no checkpoint of this training: delete it, and it begins anew"
    path.unlink()
    assert run(make_training()).first_step == 0


def test_a_checkpoint_under_another_name_is_left_alone(make_training, run, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine.ckpt").write_text("mine")
    assert run(make_training()).first_step == 0
    assert (tmp_path / "work" / "mine.ckpt").read_text() == "mine"


def test_losses_are_means_since_the_last_entry_and_the_observer_sees_them(make_training, run):
    training, observer = make_training(), Observer()
    fitted = run(training, observer=observer)
    assert [step for step, _ in fitted.losses] == [6, 12, 18, 20]
    bounds = [(0, 6), (6, 12), (12, 18), (18, 20)]
    means = [sum(training.step_losses[a:b]) / (b - a) for a, b in bounds]
    assert [loss for _, loss in fitted.losses] == pytest.approx(means, rel=1e-6)
    assert observer.losses == dict(fitted.losses)
    assert observer.images == {}
    assert fitted.seconds > 0


def test_sample_grids_are_drawn_from_the_averaged_weights(make_training, run):
    training, observer, drawn = make_training(), Observer(), []

    def draw(averaged):
        drawn.append(flat(averaged))
        return torch.zeros(1, 1, 8, 8, dtype=torch.uint8)

    run(training, observer=observer, draw=draw)
    assert list(observer.images) == [6, 12, 18, 20]
    assert {name for name, _ in observer.images.values()} == {"samples"}
    for step, weights in zip((6, 12, 18, 20), drawn, strict=True):
        assert torch.equal(weights, training.averages[step - 1])


def test_progress_is_told_with_step_and_loss(make_training, run, caplog):
    with caplog.at_level(logging.INFO, "duodiff_pipeline.training"):
        fitted = run(make_training())
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("duodiff_pipeline")]
    assert len(lines) == 4
    for line, (step, loss) in zip(lines, fitted.losses, strict=True):
        assert line.startswith(f"step {step} of 20, loss {loss:.4f}, about ")


def test_bf16_mixed_precision_trains_clips_and_goes_on_after_a_kill(make_training, run):
    exact, whole, killed, resumed = (make_training(clip_norm=0.01) for _ in range(4))
    run(exact, "exact")
    run(whole, "whole", precision="bf16-mixed")
    assert whole.step_losses != exact.step_losses
    assert whole.step_losses == pytest.approx(exact.step_losses, rel=0.05)
    assert whole.gradient_norms == pytest.approx([0.01] * STEPS, rel=1e-3)
    killed.killed_at = 8
    with pytest.raises(KilledError):
        run(killed, precision="bf16-mixed")
    run(resumed, precision="bf16-mixed")
    assert_same_training(resumed, whole)


def test_a_frozen_network_gets_no_gradient_and_stays_as_it_is_while_its_exits_learn(make_exit_training, run):
    training = make_exit_training()
    (network,) = training.frozen
    before, exits_before = flat(network), flat(training.raw)
    run(training)
    assert torch.equal(flat(network), before)
    assert all(p.grad is None for p in network.parameters())
    for name, part in training.raw.named_parameters():
        assert part.grad is not None, name
    changed = flat(training.raw) != exits_before
    assert changed.all()
    assert not any(name.startswith("frozen") for name in training.state_dict())
