"""The bar that a job draws in a terminal or a notebook."""

from __future__ import annotations

from typing import Any

from .results import Event


class Bar:
    """A bar by tqdm, or nothing."""

    def __init__(self, title: str, shown: bool) -> None:
        self._title = title
        self._shown = shown
        self._bar: Any = None

    def __enter__(self) -> Bar:
        if self._shown:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                raise ImportError("a progress bar needs tqdm: pip install 'taxond-client[progress]'") from None
            self._bar = tqdm(desc=self._title, unit="step", leave=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, event: Event) -> None:
        """Moves the bar to where an event says that the job is."""
        progress = event.progress
        if self._bar is None or progress is None:
            return
        self._bar.total = progress.steps or None
        self._bar.n = progress.step
        told = {"loss": f"{progress.loss:.3f}"}
        if progress.HasField("validation_accuracy"):
            told["accuracy"] = f"{progress.validation_accuracy:.4f}"
        self._bar.set_description(f"{self._title} {progress.stage} {progress.epoch}/{progress.epochs}", refresh=False)
        self._bar.set_postfix(told, refresh=False)
        self._bar.refresh()
