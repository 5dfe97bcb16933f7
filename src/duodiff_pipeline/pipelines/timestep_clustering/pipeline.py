from kedro.pipeline import Node, Pipeline

from .nodes import cluster_timesteps


def create_pipeline(deep: str) -> Pipeline:
    """Training images, their optimal denoisers, change points and the deep network to candidate edges."""
    settings = ["params:timestep_clustering", "params:noise", "params:switch_search.backbones"]
    return Pipeline(
        [
            Node(
                cluster_timesteps,
                ["train_images", "denoiser_differences", "change_points", f"{deep}.network", *settings],
                ["candidate_edges", "similarity_curves"],
            )
        ]
    )
