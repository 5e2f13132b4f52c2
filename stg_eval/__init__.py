"""stg-eval: paired, honest, fast evaluation of guidance in video diffusion."""

__version__ = "0.1.0"
