from kedro.pipeline import Node, Pipeline

from .nodes import cluster_timesteps


def create_pipeline() -> Pipeline:
    """Training images and change points to candidate edges."""
    settings = ["params:timestep_clustering", "params:noise", "params:switch_search.backbones"]
    return Pipeline(
        [
            Node(
                cluster_timesteps,
                ["train_images", "change_points", *settings],
                ["candidate_edges", "similarity_curves"],
            )
        ]
    )
