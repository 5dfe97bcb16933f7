"""Where to switch between diffusion networks, and what it buys: an experiment pipeline."""

__version__ = "0.1.0"
