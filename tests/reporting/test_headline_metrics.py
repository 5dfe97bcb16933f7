import json
import re

import pytest
from report_examples import (
    KID_FLOOR,
    MORE,
    MORE_FLOORS,
    PLANS,
    evaluation,
    exit_table,
    findings,
    parameters,
    report_data,
)

from duodiff_pipeline.metrics.reference import Floor
from duodiff_pipeline.reporting.findings import weigh
from duodiff_pipeline.reporting.headline_metrics import flat_metrics, headline_metrics, slug
from duodiff_pipeline.reporting.measured import measured_plans
from duodiff_pipeline.reporting.switches import suggested_switches

SUGGESTED = suggested_switches(report_data().change_points, exit_table(parameters()), parameters().noise.schedule())


def test_what_dvc_shows():
    metrics = headline_metrics(findings(), 0.98, SUGGESTED)
    assert metrics["recommendation"]["verdict"] == "switch"
    assert metrics["recommendation"]["plan"] == "duodiff ddim 20 k=7"
    plan = metrics["plans"]["duodiff_ddim_20_k7"]
    assert {"fid", "fid_low", "fid_high", "gmacs", "nfe", "k", "fid_difference"} < set(plan)
    assert {"kid", "kid_low", "kid_high", "memorisation_features", "memorisation_pixels"} < set(plan)
    assert plan["kid"] == pytest.approx(3 * plan["fid"] - 6)
    assert metrics["memorisation_by_chance"] == pytest.approx(2 / 3)
    assert "k" not in metrics["plans"]["deep_ddim_20"]
    assert metrics["controls"]["duodiff_ddim_20_k7"]["control_fewer_steps_ddim_15"]["standing"] == "worse"
    assert {"fid_infinity", "precision", "precision_low", "recall_high"} < set(plan)
    assert plan["fid_infinity"] == pytest.approx(plan["fid"] - 2)
    more = {f"{metric}_{value}" for metric in ("fid_infinity", "precision") for value in ("mean", "spread")}
    assert set(metrics["floor"]) == {"mean", "spread", "kid_mean", "kid_spread", "n_images"} | more
    assert metrics["extractor"] == {"held_out_accuracy": 0.98}
    assert metrics["suggested_switch"]["u_0.02"]["found"] is True
    assert metrics["suggested_switch"]["u_0.15"] == {"found": False}
    assert metrics["searched_switch"]["duodiff_ddim_20_k7"] == {"k": 7, "edges": {"1": 674.0}}


def test_what_was_not_measured_is_left_out():
    """Further metrics that nobody asked for, and the accuracy of an extractor from a file."""
    inputs = evaluation()
    inputs["records"] = [r for r in inputs["records"] if r["name"] not in ("fid_infinity", "precision", "recall")]
    found = weigh(measured_plans(**inputs), findings().floor, findings().kid_floor)
    metrics = headline_metrics(found, None, SUGGESTED)
    assert metrics["extractor"] == {}
    assert not {"fid_infinity", "precision"} & set(metrics["plans"]["deep_ddim_20"])
    flat = flat_metrics(metrics)
    assert "fid/deep_ddim_20" in flat
    assert not [name for name in flat if "precision" in name or name.startswith("extractor")]


def test_of_three_stages_all_edges_and_no_k():
    fids = {name: plan[3] for name, plan in (PLANS | MORE).items()}
    metrics = headline_metrics(findings(fids), 0.98, SUGGESTED)
    assert metrics["searched_switch"]["duodiff_ddim_20_k5_12"] == {"edges": {"1": 774.0, "2": 424.0}}
    assert "k" not in metrics["plans"]["duodiff_ddim_20_k5_12"]
    assert metrics["searched_switch"]["duodiff_ddim_20_k7_middle-deep"]["k"] == 7


def test_seconds_do_not_enter():
    inputs = evaluation()
    for own in inputs["timings"]["sampling"].values():
        own.update({key: value * 3 for key, value in own.items()})
    slower = weigh(measured_plans(**inputs), Floor((1.7, 2.4, 2.9), 599), KID_FLOOR, MORE_FLOORS)
    first, second = (json.dumps(headline_metrics(found, 0.98, SUGGESTED)) for found in (findings(), slower))
    assert first == second
    assert "seconds" not in first


def test_mlflow_takes_the_flat_names():
    flat = flat_metrics(headline_metrics(findings(), 0.98, SUGGESTED))
    assert {"precision/deep_ddim_20", "floor/fid_infinity_mean"} < set(flat)
    assert {"kid/deep_ddim_20", "memorisation_pixels/deep_ddim_20", "floor/kid_mean"} < set(flat)
    assert {"fid/deep_ddim_20", "gmacs/duodiff_dpmsolverpp_10_k4", "floor/mean", "recommendation/cost_ratio"} < set(
        flat
    )
    assert all(re.fullmatch(r"[\w\-. :/]+", name) and isinstance(value, float) for name, value in flat.items())


def test_slugs_tell_plans_apart():
    names = [*PLANS, *MORE, "duodiff ddim 20 k=51,2", "duodiff ddim 20 k=512"]
    assert len({slug(name) for name in names}) == len(names)
    assert slug("adadiff ddim(eta=0.5) 20 u<=0.05") == "adadiff_ddimeta0.5_20_u0.05"
