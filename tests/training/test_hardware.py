"""What fits a training on a machine and leaves what is learnt as it is; and what does not go together."""

import shutil

import pytest
import torch
from hardware_examples import KINDS, batches, run, training, weights

from duodiff_pipeline.errors import InputError
from duodiff_pipeline.training.blocks import blocks_of, recompute_blocks
from duodiff_pipeline.training.fit import Hardware, fit
from duodiff_pipeline.training.shares import share_of

SOME = [pytest.param(kind, marks=pytest.mark.slow if kind in ("student", "decoders") else ()) for kind in KINDS]
BLOCKS = {"backbone": 3, "student": 3, "early exits": 0, "shared exits": 3, "exit schedule": 3, "decoders": 15}


def assert_near(found, expected, tolerance: float) -> None:
    torch.testing.assert_close(weights(found[0].raw), weights(expected[0].raw), rtol=0, atol=tolerance)
    losses = zip(found[1].losses, expected[1].losses, strict=True)
    assert all(a == pytest.approx(b, rel=tolerance) for (_, a), (_, b) in losses)


@pytest.mark.parametrize("kind", SOME)
def test_pieces_and_recomputed_blocks_train_as_whole_batches_do(tmp_path, kind):
    whole = run(kind, 12, tmp_path / "whole")
    assert_near(run(kind, 12, tmp_path / "pieces", gradient_accumulation=2), whole, 1e-6)
    assert_near(run(kind, 12, tmp_path / "recomputed", gradient_checkpointing=True), whole, 0.0)
    assert_near(run(kind, 12, tmp_path / "last", channels_last=True), whole, 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_shares_of_a_batch_are_all_of_it(kind):
    batch = batches(kind, 3, 6)[2]
    for count in (1, 2, 3, 6):
        shares = [share_of(batch, i, count) for i in range(count)]
        assert all(len(share.x0) == 6 // count for share in shares)
        for whole, parts in zip(batch[:3], zip(*(share[:3] for share in shares), strict=True), strict=True):
            assert torch.equal(torch.cat(parts), whole)
    with pytest.raises(InputError, match="6 images have no 4 equal parts"):
        share_of(batch, 0, 4)


def test_accumulation_holds_the_activations_of_one_piece_alone():
    held = {}
    for count in (1, 4):
        sizes, batch = [], batches("backbone", 1, 8)[0]
        module = training("backbone", 1)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            module.means(share_of(batch, 0, count))
        held[count] = sum(sizes)
    assert held[4] < 0.5 * held[1]


@pytest.mark.parametrize("kind", KINDS)
def test_recomputed_blocks_keep_their_inputs_alone_and_have_the_same_gradients(kind):
    batch = batches(kind, 1, 8)[0]
    gradients, held = [], []
    for recomputed in (False, True):
        module, sizes = training(kind, 1), []
        assert len(blocks_of(module.raw)) == BLOCKS[kind]
        if recomputed:
            recompute_blocks(module.raw)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            loss = module.loss(batch)
        loss.backward()
        gradients.append([p.grad for p in module.raw.parameters()])
        held.append(sum(sizes))
    for plain, recomputed in zip(*gradients, strict=True):
        assert (plain is None) == (recomputed is None)
        assert plain is None or torch.equal(plain, recomputed)
    assert held[1] < 0.7 * held[0] or not BLOCKS[kind]


def test_what_is_recomputed_is_not_in_the_averaged_network(tmp_path):
    module, _, _ = run("backbone", 3, tmp_path, gradient_checkpointing=True)
    assert "forward" in vars(module.raw.mid_block)
    assert "forward" not in vars(module.ema.module.mid_block)
    assert module.ema.module.state_dict().keys() == training("backbone", 3).raw.state_dict().keys()


@pytest.mark.parametrize("kind", SOME)
def test_bfloat16_in_pieces_is_near_to_float32(tmp_path, kind):
    exact = run(kind, 6, tmp_path / "exact")
    half = run(kind, 6, tmp_path / "half", precision="bf16-mixed", gradient_accumulation=2, gradient_checkpointing=True)
    found, expected = ([loss for _, loss in fitted.losses] for _, fitted, _ in (half, exact))
    assert found == pytest.approx(expected, rel=0.05)
    assert found != expected


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no compiler")
@pytest.mark.parametrize("kind", ["backbone", "exit schedule", "decoders"])
def test_compiled_blocks_train_as_others_do(tmp_path, kind):
    plain = run(kind, 6, tmp_path / "plain")
    assert_near(run(kind, 6, tmp_path / "compiled", compile=True), plain, 1e-4)
    assert_near(run(kind, 6, tmp_path / "both", compile=True, gradient_checkpointing=True), plain, 1e-4)


def test_fit_needs_no_more_than_where_and_in_which_precision(tmp_path):
    class Silent:
        def log_metrics(self, values, step): ...
        def log_images(self, name, images_u8, step): ...

    fitted = fit(
        training("backbone", 3), batches("backbone", 3), Hardware("cpu", 1, "32-true"), tmp_path, 5, Silent(), 1
    )
    assert len(fitted.losses) == 3
