"""The settings of a model that is there: python -m llmhpc.model_of FOLDER [--write NAME].

Prints, as a choice of the group model, what the config.json of a Hugging Face folder says; --write makes
conf/model/NAME.yaml of it, for model=NAME.
"""

import argparse
import re
import sys
from dataclasses import asdict
from importlib import resources
from pathlib import Path

from omegaconf import OmegaConf

from llmhpc.errors import ConfigError, denied_in_one_line
from llmhpc.files import read_json
from llmhpc.models import hugging_face
from llmhpc.planning.registry import options
from llmhpc.tokens import hub
from llmhpc.train.pretrained import CONFIG, settings

USAGE = 2


@denied_in_one_line
def main(arguments: list[str]) -> int:
    """Exit status: 0, 2 if the folder or the name is wrong."""
    asked = _parser().parse_args(arguments)
    try:
        target = _target(asked.write) if asked.write else None
        text = choice(asked.folder)
    except ConfigError as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return USAGE
    if target is None:
        print(text, end="")
    else:
        target.write_text(text)
        print(f"wrote {target}; use model={asked.write}")
    return 0


def choice(place: str) -> str:
    """The text of a file of conf/model. Raises ConfigError where the folder's model is none that can be trained here."""
    folder = hub.folder(place)
    config = read_json(folder / CONFIG)
    if config is None:
        raise ConfigError(f"{folder}: no {CONFIG} there; a folder that transformers opens")
    kinds = {name: kind for kind in options("model") for name in hugging_face(kind).MODEL_TYPES}
    if (kind := kinds.get(there := config.get("model_type"))) is None:
        raise ConfigError(f"{folder}: {CONFIG} has model_type={there}: one of {', '.join(kinds)}")
    values = asdict(settings(folder, config, kind))
    del values["kind"]
    return (
        f"# @package stages.train.model\n# As {place}/{CONFIG} says.\n"
        f"defaults:\n  - /model@_here_: {kind}\n  - _self_\n{OmegaConf.to_yaml(values)}"
    )


def _target(name: str) -> Path:
    """The file to write. Raises ConfigError if the name is none or taken."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        raise ConfigError(f"--write {name!r}: letters, digits, _ and -")
    target = Path(str(resources.files("llmhpc.conf"))) / "model" / f"{name}.yaml"
    if target.exists():
        raise ConfigError(f"--write {name}: {target} is there already; another name, or remove it")
    return target


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m llmhpc.model_of", description=__doc__)
    parser.add_argument("folder", help="that transformers opens, or NAME@COMMIT of the hub")
    parser.add_argument("--write", metavar="NAME", help="write conf/model/NAME.yaml")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
