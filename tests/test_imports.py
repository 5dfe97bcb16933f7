"""What is not needed is not loaded: start-up must not pay for training and sampling."""

import subprocess
import sys


def test_making_all_pipelines_loads_neither_lightning_nor_diffusers_nor_optuna() -> None:
    script = (
        "import sys, duodiff_pipeline.pipeline_registry as registry; registry.register_pipelines();"
        "print(sorted({'lightning', 'diffusers', 'optuna', 'mlflow', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_library_rooms_load_no_framework() -> None:
    script = (
        "import sys; from duodiff_pipeline.networks import plans; from duodiff_pipeline.metrics import measure;"
        "from duodiff_pipeline.analysis import clustering;"
        "print(sorted({'kedro', 'mlflow', 'optuna', 'dvc', 'lightning'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
