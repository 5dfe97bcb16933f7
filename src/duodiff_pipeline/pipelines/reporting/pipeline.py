from kedro.pipeline import Node, Pipeline

from .nodes import gather_report, make_answer, make_metrics, make_report, make_summary, weigh_measurements


def create_pipeline(
    backbones: list[str], ase: bool = False, multistage: bool = False, latents: bool = False
) -> Pipeline:
    """Everything measured to metrics, report and summary; the summary is no file but what the command line shows.

    ase: whether there is an exit schedule; multistage: whether there is a comparison of multistage networks;
    latents: whether networks learn from latents.
    """
    names = (*backbones, "early_exits", *(["ase"] if ase else []))
    exits = {"change_points": "change_points", "exit_table": "exit_table", "extractor": "extractor_accuracy"}
    images = {"train": "train_images", "held_out": "held_out_images", "sample_grids": "sample_grids"}
    trained = {f"{name}_network": f"{name}.network" for name in names}
    trained |= {f"{name}_curve": f"{name}.training_curve" for name in names}
    same_name = (
        "loss_gap",
        "loss_gap_switches",
        "candidate_edges",
        "similarity_curves",
        "trials",
        "timings",
        "environment",
        "runtime_params",
        "parameters",
        "work_folder",
    )
    of_ase = ("exit_errors",) if ase else ()
    of_latents = ("autoencoder",) if latents else ()
    of_multistage = ("multistage_findings", "multistage_page") if multistage else ()
    return Pipeline(
        [
            Node(weigh_measurements, ["records", "evaluated_plans", "seed_blocks", "timings", "floor"], "findings"),
            Node(make_metrics, {"findings": "findings", "noise": "params:noise", **exits}, "metrics"),
            Node(
                gather_report,
                {
                    **exits,
                    **images,
                    **trained,
                    "curve_table": "switch_curves",
                    **{name: name for name in (*same_name, *of_ase, *of_multistage, *of_latents)},
                },
                "report_data",
            ),
            Node(make_report, ["findings", "report_data"], ["figures", "report"]),
            Node(make_answer, ["findings", "report_data", "figures"], "answer"),
            Node(make_summary, ["findings", "work_folder"], "summary"),
        ]
    )
