"""The pipeline's nodes, run by Kedro on inputs in memory."""

from pathlib import Path

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from report_examples import curve_table, evaluation, loss_gap, networks, report_data

from duodiff_pipeline.pipelines.reporting import create_pipeline


def test_metrics_report_and_summary():
    data, measured = report_data(), evaluation()
    settings = dict(data.parameters)  # typed sections in a plain mapping, as Kedro gives them
    inputs = {
        "records": measured["records"],
        "evaluated_plans": measured["evaluated"],
        "seed_blocks": measured["seed_blocks"],
        "timings": measured["timings"],
        "floor": {
            "fid": {"values": [1.7, 2.4, 2.9], "n_images": 599, "mean": 2.33, "spread": 0.6},
            "kid": {"values": [-1.1, 0.2, 0.9], "n_images": 599, "mean": 0.0, "spread": 1.0},
        },
        "extractor_accuracy": data.extractor,
        "parameters": settings,
        "params:noise": settings["noise"],
        "environment": "digits",
        "runtime_params": {"switch_search": {"n_trials": 9}, "sampling": {}},
        "work_folder": Path("/project/data/.work/digits"),
        **{f"{name}.training_curve": curve for name, curve in data.training_curves.items()},
        **{f"{name}.network": network for name, network in networks().items()},
        "switch_curves": curve_table(),
        "train_images": data.train,
        "held_out_images": data.held_out,
    }
    same_name = ("exit_table", "change_points", "candidate_edges", "similarity_curves", "trials", "sample_grids")
    inputs |= {name: getattr(data, name) for name in same_name}
    inputs["loss_gap"], inputs["loss_gap_switches"] = loss_gap()
    pipeline = create_pipeline(["deep", "middle", "shallow"])
    assert pipeline.inputs() == set(inputs)

    catalog = DataCatalog({name: MemoryDataset(value, copy_mode="assign") for name, value in inputs.items()})
    outputs = {name: made.load() for name, made in SequentialRunner().run(pipeline, catalog).items()}
    assert set(outputs) == {"metrics", "report", "summary", "answer"}
    assert outputs["report"].count("<svg") == 8
    assert outputs["metrics"]["recommendation"]["plan"] == "duodiff ddim 20 k=7"
    assert outputs["metrics"]["floor"]["mean"] == pytest.approx(7 / 3)
    assert outputs["metrics"]["floor"]["kid_mean"] == pytest.approx(0)
    assert outputs["report"].startswith("<!doctype html>")
    assert "kedro run --env digits --params switch_search.n_trials=9</pre>" in outputs["report"]
    page, figures = outputs["answer"]
    assert set(figures) == {"where", "exits", "curves", "loss_gap", "samples"}
    assert figures["exits"] in outputs["report"]
    assert all(f"](figures/{name}.svg)" in page and svg.startswith("<svg") for name, svg in figures.items())
    assert outputs["summary"].endswith("MLflow store: none, this run is not tracked")
    assert "report: /project/data/08_reporting/digits/report.html" in outputs["summary"]
