"""What the comparison of multistage networks says of numbers whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from duodiff_pipeline.config import Multistage
from duodiff_pipeline.diffusion.noise import NoiseSchedule
from duodiff_pipeline.metrics.reference import Floor
from duodiff_pipeline.reporting.figures_multistage import training_cost_figure
from duodiff_pipeline.reporting.multistage import multistage_findings, multistage_section, render_multistage

STAGES = {"decoder_widths": (4, 8, 12)}
SETTINGS = Multistage(
    encoder_width=8,
    multipliers=(1, 2),
    blocks=1,
    attention_sides=(),
    networks={
        "unified": {"decoder_widths": (8,)},
        "multistage": {**STAGES, "edges": "optimal_denoiser"},
        "multistage_uniform": {**STAGES, "edges": "uniform"},
        "separate": {**STAGES, "edges": "optimal_denoiser", "shared_encoder": False},
    },
    eta=0.01,
    alpha=0.7,
    steps=100,
    checkpoints=(0.5,),
    timesteps="uniform",
    seeds=(0, 1),
    solver="ddim",
    sampling_steps=(5, 10),
)
EDGES = {
    "unified": [],
    "multistage": [700.0, 400.0],
    "multistage_uniform": [667.0, 333.0],
    "separate": [700.0, 400.0],
}
# final FID with 10 steps in the two trainings; 5 steps cost 2 more, half of the training 4
FINAL = {"unified": (8.0, 8.2), "multistage": (6.0, 6.2), "multistage_uniform": (8.5, 7.9), "separate": (9.0, 9.1)}
GMACS = {"unified": 1.0, "multistage": 1.2, "multistage_uniform": 1.0, "separate": 1.2}


def blocks(of_networks: dict[str, tuple[float, float]] = FINAL) -> pd.DataFrame:
    jitter = np.random.default_rng(0).normal(0, 0.05, 5)
    rows = []
    for name, finals in of_networks.items():
        for seed, fid in enumerate(finals):
            own_jitter = np.roll(jitter, len(name) + seed) / 10
            plans = [(50, 10, fid + 4), (100, 5, fid + 2), (100, 10, fid)]
            plans += [(100, 6, fid + 1.6), (100, 12, fid - 0.1)] if name == "unified" else []
            for step, steps, value in plans:
                rows += [
                    {
                        "network": name,
                        "seed": seed,
                        "training_step": step,
                        "training_gmacs": 10.0 * step,
                        "final": step == 100,
                        "solver": "ddim",
                        "steps": steps,
                        "nfe": steps,
                        "gmacs": steps * GMACS.get(name, 1.2),
                        "resident_parameters": 1_000_000,
                        "block": block,
                        "fid": value + shared + own,
                    }
                    for block, (shared, own) in enumerate(zip(jitter, own_jitter, strict=True))
                ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def section():
    return multistage_section(blocks(), EDGES, SETTINGS, NoiseSchedule(), 32, Floor((1.0, 1.2), 32))


def claims(section) -> dict:
    return {(claim.plan, claim.other, claim.at): claim for claim in section.claims}


def test_claims_at_equal_training_cost_are_of_final_networks_with_most_steps(section):
    found = {claim.plan: claim for claim in section.equal_training}
    assert {name: claim.verdict for name, claim in found.items()} == {
        "multistage": "holds",
        "multistage_uniform": "open",  # worse in one training, better in the other
        "separate": "contradicted",
    }
    for difference in found["multistage"].differences:
        assert difference.value == pytest.approx(-2, abs=0.05)
    assert found["multistage_uniform"].standings == ("worse", "better")


def test_at_equal_sampling_cost_the_first_network_has_the_steps_that_come_nearest(section):
    found = claims(section)
    ten = found["multistage", "unified", "at equal sampling cost (10 steps against 12, 100% of their cost)"]
    five = found["multistage", "unified", "at equal sampling cost (5 steps against 6, 100% of their cost)"]
    assert [d.value for d in ten.differences] == pytest.approx([-1.9, -1.9], abs=0.05)
    assert [d.value for d in five.differences] == pytest.approx([-1.6, -1.6], abs=0.05)


def test_networks_that_differ_in_one_thing_are_held_against_each_other(section):
    found = [(c.plan, c.other, c.verdict) for c in (*section.other_edges, *section.other_encoders)]
    assert found == [("multistage", "multistage_uniform", "holds"), ("multistage", "separate", "holds")]


def test_the_training_cost_at_which_the_unified_fid_is_reached(section):
    """From 10 to 6 between 50 and 100 steps: 8 is met at 75."""
    assert section.reached["multistage"] == pytest.approx([0.75, 0.75], abs=0.01)
    assert section.reached["separate"] == [None, None]
    assert section.reached["multistage_uniform"][0] is None
    assert section.reached["multistage_uniform"][1] == pytest.approx(0.96, abs=0.01)
    said = "\n".join(section.sentences)
    assert "multistage reaches the final FID of unified within 75% and 75% of its training cost" in said
    assert "separate does not reach the final FID of unified at its training cost, in 2 trainings." in said


def test_the_page_says_it_all(section):
    page = render_multistage(section)
    assert all(f"- {sentence}\n" in page for sentence in section.sentences)
    assert "| multistage | 4, 8, 12 | one | optimal denoiser: 700, 400 |" in page
    assert "| separate | 4, 8, 12 | one a stage | optimal denoiser: 700, 400 |" in page
    assert "The floor, the FID of real training images, is 1.10" in page
    assert training_cost_figure(section).startswith("<svg")
    assert training_cost_figure(section) == training_cost_figure(section)
    findings = multistage_findings(section)
    assert findings["sentences"] == section.sentences
    assert len(findings["claims"]) == len(section.claims) == 3 + 6 + 2


def searched_section(edges: list[float]):
    """With a network more, whose edges were searched among three: of two checkpoints the loser of the first has one."""
    networks = {**SETTINGS.networks, "searched": {**STAGES, "edges": "searched"}}
    raw = {**SETTINGS.model_dump(), "networks": networks, "search": {"trainings": 3, "seed": 2}}
    tried = [(edges, 500.0, True), ([800.0, 100.0], 500.0, False), ([900.0, 500.0], 250.0, False)]
    trials = pd.DataFrame(
        [
            {
                "proposed_by": "somebody",
                "edges": own,
                "checkpoint": 0,
                "training_gmacs": 250.0,
                "fid": 9.0,
                "goes_on": on,
            }
            for own, _, on in tried
        ]
        + [
            {
                "proposed_by": "somebody",
                "edges": own,
                "checkpoint": 1,
                "training_gmacs": cost,
                "fid": 8.0,
                "goes_on": on,
            }
            for own, cost, on in tried[:2]
        ]
    )
    all_edges, finals = {**EDGES, "searched": edges}, {**FINAL, "searched": (5.0, 5.2)}
    settings = Multistage.model_validate(raw)
    return multistage_section(blocks(finals), all_edges, settings, NoiseSchedule(), 32, None, trials)


def test_what_a_search_of_edges_cost_and_chose_is_said():
    found = searched_section([650.0, 250.0])
    said = " ".join(found.sentences)
    assert (
        "The edges of searched were searched by 2 more trainings, given up on the way, which cost 75% of that" in said
    )
    assert "with seed 0 was chosen for its FID" in said
    assert "proposed by" in render_multistage(found)


def test_each_two_networks_of_other_edges_meet_once_and_those_of_the_same_do_not():
    pairs = [(c.plan, c.other) for c in searched_section([650.0, 250.0]).other_edges]
    assert pairs == [
        ("multistage", "multistage_uniform"),
        ("searched", "multistage"),
        ("searched", "multistage_uniform"),
    ]
    alike = [(c.plan, c.other) for c in searched_section([701.0, 401.0]).other_edges]  # on the grid of 10 steps
    assert alike == [("multistage", "multistage_uniform"), ("searched", "multistage_uniform")]


def test_an_evaluation_costs_a_share_of_all_evaluations_not_of_the_steps():
    twice = blocks().assign(nfe=lambda table: 2 * table["steps"])
    found = multistage_section(twice, EDGES, SETTINGS, NoiseSchedule(), 32, None)
    assert "| 1 M | 500 |" in render_multistage(found)  # MMACs, of 1 GMAC a step
