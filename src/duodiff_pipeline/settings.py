"""Kedro's project settings."""

from .hooks import ExperimentHooks

HOOKS = (ExperimentHooks(),)
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-telemetry",)
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},  # an environment overrides single nested keys
}
