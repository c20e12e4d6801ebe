"""Names of resources as callers give them, as the daemon takes them."""

from __future__ import annotations


def model_name(model: str) -> str:
    """`bank` and `models/bank` mean the same."""
    return model if model.startswith("models/") else f"models/{model}"


def version_name(model: str, version: int | None = None, alias: str | None = None) -> str:
    """The version that shall answer: a number, or what an alias points to; if neither is given, what `model` says.

    Raises:
        ValueError: if both are given.
    """
    if version is not None and alias is not None:
        raise ValueError("give a version or an alias, not both")
    name = model_name(model)
    if version is not None:
        return f"{name}/versions/{version}"
    return name if alias is None else f"{name}@{alias}"


def job_name(job: str | int) -> str:
    """`3`, `"3"` and `"jobs/3"` mean the same."""
    return job if isinstance(job, str) and job.startswith("jobs/") else f"jobs/{job}"
