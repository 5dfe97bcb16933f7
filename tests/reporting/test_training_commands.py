"""The answer names the commands that make its networks again."""

from dataclasses import replace

from report_examples import TRAINED_WITH, networks, parameters, report_data

from duodiff_pipeline.networks.files import StoredNetwork
from duodiff_pipeline.reporting.training_commands import training_commands


def test_an_exit_schedule_is_trained_after_its_backbone_with_settings_of_its_own_section():
    stored = networks()
    deep = stored["deep"]
    ase = {"schedule": "light", "depths": None, "threshold": None, "dropped_first": "outer", "weighting": "uniform"}
    training = {**TRAINED_WITH, "batch_images": 32, "learning_rate": 2e-4, "ase": ase}
    header = replace(deep.header, step=800, training=training, backbone_sha256=deep.sha256)
    stored["ase"] = StoredNetwork(deep.module, header)
    commands = training_commands(report_data(), stored, [])
    assert commands.index("kedro run --nodes deep.train --params hardware.threads=1") < len(commands) - 1
    assert commands[-1] == (
        "kedro run --nodes ase.train "
        "--params training.batch_images=32,ase.learning_rate=0.0002,ase.schedule=light,hardware.threads=1"
    )


def test_a_schedule_that_follows_exits_needs_their_statistics_first():
    stored, settings = networks(), parameters(ase={"schedule": "exit_statistics", "threshold": 0.1})
    stored["ase"] = stored["deep"]
    commands = training_commands(report_data(parameters=settings), stored, ["deep"])
    assert "kedro run --nodes deep.take" in commands
    assert commands[-2] == "kedro run --pipelines exit_statistics"
    assert commands.index("kedro run --pipelines early_exit --params hardware.threads=1") < len(commands) - 2
