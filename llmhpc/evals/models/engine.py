"""lighteval 0.13 made fit for a cluster without network: each patch names the fault that it answers."""

import gc
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from llmhpc.evals.models.deferred import Deferred

ASKED_FOR_AT_ONCE = ("nltk", "pandas", "pytablewriter", "sacrebleu", "scipy", "sklearn")


def prepare() -> None:
    """Import what we take of lighteval: metrics, documents and its model class; before anything else does.

    Not more than that: its pipeline, its registry and its back ends are not needed, and cost five seconds.
    """
    with first_import("lighteval.tasks.prompt_manager"):
        _stay_offline()
        _hide_nanotron()
        _import_only_what_is_used()
    logging.getLogger("lighteval").setLevel(logging.ERROR)


@contextmanager
def first_import(last: str) -> Iterator[None]:
    """Imports leave a million objects: looking for garbage among them takes a fifth of a start.

    Args:
        last: what the block imports; where it is there already, nothing is changed.
    """
    collects = gc.isenabled() and last not in sys.modules
    if collects:
        gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.freeze()
            gc.enable()


def prepare_pipeline(cache: Path) -> None:
    """All of lighteval, with its own pipeline: for comparisons with it. A second call moves the cache.

    Args:
        cache: folder for what ``datasets`` makes of files; never the user's home.
    """
    import datasets

    datasets.config.HF_DATASETS_CACHE = cache
    datasets.disable_progress_bars()
    logging.getLogger("datasets").setLevel(logging.ERROR)
    prepare()
    _leave_gradients_on()
    _load_own_tasks_only()
    _do_not_look_for_git()


def _stay_offline() -> None:
    """Fault: model and data set names are looked up on the network, even when they are local folders.

    The variables are read when the libraries are imported, which another stage in this process may
    have done already: so the values that they made are set too. HF_HUB_OFFLINE=0 asks for the network.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import huggingface_hub.constants
    import transformers

    offline = os.environ["HF_HUB_OFFLINE"] != "0"
    huggingface_hub.constants.HF_HUB_OFFLINE = offline
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_HUB_OFFLINE = offline
    transformers.utils.logging.disable_progress_bar()


def _hide_nanotron() -> None:
    """Fault: lighteval imports nanotron wherever it is installed, and nanotron 0.4 imports in a circle."""
    from lighteval.utils import imports

    if hasattr(imports.is_package_available, "without_nanotron"):
        return
    original = imports.is_package_available

    def is_package_available(package: Any) -> bool:
        return package != "nanotron" and original(package)

    is_package_available.without_nanotron = True  # type: ignore[attr-defined]
    imports.is_package_available = is_package_available  # type: ignore[assignment]


def _import_only_what_is_used() -> None:
    """Fault: with an accuracy come the packages of every metric, and take as long as a hundred questions."""
    with Deferred(*ASKED_FOR_AT_ONCE):
        import lighteval.metrics.metrics_sample
        import lighteval.models.abstract_model
        import lighteval.tasks.prompt_manager  # noqa: F401


def _leave_gradients_on() -> None:
    """Fault: importing the transformers back end switches gradients off for the whole process."""
    import torch

    before = torch.is_grad_enabled()
    import lighteval.models.transformers.transformers_model  # noqa: F401

    torch.set_grad_enabled(before)


def _load_own_tasks_only() -> None:
    """Fault: every registry imports all built-in task files, and one of them downloads a pickle then."""
    from lighteval.tasks.registry import Registry

    def load(custom_tasks: ModuleType, load_multilingual: bool = False) -> dict[str, Any]:
        return Registry._extract_configs(custom_tasks)

    Registry.load_all_task_configs = staticmethod(load)  # type: ignore


def _do_not_look_for_git() -> None:
    """Fault: the logger opens the git repository at the part of its own path before the first "src".

    With "src" inside a folder's name that path does not exist, and the logger stops the evaluation;
    without a git program the import does.
    """
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    from lighteval.logging.info_loggers import GeneralConfigLogger

    def start(logger: GeneralConfigLogger) -> None:
        logger.lighteval_sha = version("lighteval")
        logger.start_time = time.perf_counter()

    GeneralConfigLogger.__init__ = start  # type: ignore
