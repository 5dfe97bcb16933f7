from kedro.pipeline import Node, Pipeline

from .nodes import make_report


def create_pipeline(backbones: list[str]) -> Pipeline:
    return Pipeline([Node(make_report, ["records", "timings"], "report")])
