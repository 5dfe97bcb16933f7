from .pipeline import create_pipeline, create_training

__all__ = ["create_pipeline", "create_training"]
