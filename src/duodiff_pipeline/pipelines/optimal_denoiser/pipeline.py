from kedro.pipeline import Node, Pipeline

from .nodes import measure_denoisers, summarise_edges


def create_pipeline() -> Pipeline:
    """Training images to every draw's differences of optimal denoisers; the summary is what the command line shows."""
    of_draws = [f"params:timestep_clustering.{key}" for key in ("draws", "data_range", "seed", "images")]
    return Pipeline(
        [
            Node(
                measure_denoisers,
                ["train_images", *of_draws, "params:noise"],
                "denoiser_differences",
            ),
            Node(
                summarise_edges,
                ["denoiser_differences", "params:timestep_clustering"],
                "optimal_denoiser_summary",
                name="summarise_edges",
            ),
        ]
    )
