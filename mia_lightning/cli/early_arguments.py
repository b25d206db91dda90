"""What arguments and configurations name, read before the parser that needs the classes they name."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mia_lightning
from mia_lightning.checkpoints.checkpoint_file import OTHER, no_such_checkpoint
from mia_lightning.checkpoints.run_configuration import read_config, seed_of_training

if TYPE_CHECKING:
    from mia_lightning.checkpoints.hyperparameters import RememberedArguments

SECTIONS = ("model", "data")
REFERENCE_CKPT = "--reference_ckpt"
_FOLDER_READERS = ("PairedImageDataModule", "SegmentationDataModule")
_NO_FILES = ("", "null", "best", "last", "hpc", "registry")  # what Lightning finds itself


@dataclass
class EarlyArguments:
    """What a command's arguments name; what is named last counts.

    Attributes:
        classes: Class of the model and of the data module, by section.
        names: Names of the arguments of these classes, by section.
        ckpt_path: The checkpoint; None where none is named.
        configs: Contents of the configurations, in order.
        root: The data module's folder; None where none is named, or nothing will be read from it.
        references: Folder of reference models.
        reference_ckpt: Checkpoints that are reference models.
        outputs: Folder of stored outputs.
        error: Why the arguments after some point could not be read.
    """

    classes: dict[str, str] = field(default_factory=dict)
    names: dict[str, set[str]] = field(default_factory=lambda: {section: set() for section in SECTIONS})
    ckpt_path: str | None = None
    configs: list[Mapping[str, Any]] = field(default_factory=list)
    root: str | None = None
    references: str | None = None
    reference_ckpt: list[str] = field(default_factory=list)
    outputs: str | None = None
    error: argparse.ArgumentError | None = field(default=None, compare=False)

    @classmethod
    def of(cls, args: Sequence[str]) -> EarlyArguments:
        """Read the arguments of a command.

        Example:
            >>> early = EarlyArguments.of(["audit", "--model=lab.Net", "--model.width", "6", "--ckpt_path", "w.ckpt"])
            >>> early.classes, early.names["model"], early.ckpt_path
            ({'model': 'lab.Net'}, {'width'}, 'w.ckpt')
        """
        # By hand: jsonargparse has no parse_known_args, and fails without the arguments that are to be filled in.
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
        parser.add_argument("-c", "--config", action=_ReadConfig)
        for section in SECTIONS:
            options = (f"--{section}", f"--{section}.class_path", f"--{section}.help")
            parser.add_argument(*options, dest=section, action=_NameClass, nargs="?")
        for name in ("ckpt_path", "references", "outputs"):
            parser.add_argument(f"--{name}")
        parser.add_argument(REFERENCE_CKPT, nargs="+", action="extend")
        parser.add_argument("--data.root", "--data.init_args.root", dest="root")
        early = cls()
        try:
            _, rest = parser.parse_known_args(args, early)
        except argparse.ArgumentError as error:
            early.error = error
            return early
        if early.root is not None:
            early.names["data"].add("root")
        if any(arg.startswith("--print_config") or arg.partition("=")[0].endswith(".help") for arg in args):
            early.root = None
        for option in (arg.partition("=")[0] for arg in rest):
            for section in SECTIONS:
                if option.startswith(f"--{section}."):
                    early.names[section].add(option.removeprefix(f"--{section}.").removeprefix("init_args."))
        early.ckpt_path = None if early.ckpt_path == "null" else early.ckpt_path
        return early

    def check(self, command: str) -> None:
        """Refuse missing configurations, checkpoints and folders by name, before anything heavy is imported.

        Raises:
            argparse.ArgumentError: If a configuration is missing, naming those there are, or an option has no value.
            FileNotFoundError: If a checkpoint or a folder is missing, naming the checkpoints there are.
        """
        if self.error is not None:
            raise self.error
        if self.outputs is not None:
            return  # these options are for audits of the model, as the command says
        module, _, name = self.classes.get("data", "").rpartition(".")
        reads = name in _FOLDER_READERS and module.split(".")[0] in ("", "mia_lightning")
        # Evidence may have folders of its own, and what is passed as a whole is not read here.
        if reads and command not in ("evidence", "export") and "init_args" not in self.names["data"]:
            _require_folder(self.root, "the data folder {} does not exist (--data.root")
        if command == "audit":
            _require_references(self.references, self.reference_ckpt)
        of_file = command not in ("references", "benchmark")  # which take none and say so
        checkpoint = (of_file and self.ckpt_path) or ""
        if checkpoint.split(":")[0] not in _NO_FILES and "://" not in checkpoint and not Path(checkpoint).exists():
            raise FileNotFoundError(f"{no_such_checkpoint(Path(checkpoint))} {OTHER}")

    @property
    def seed_of_training(self) -> int | None:
        """Seed of the training that wrote the checkpoint: in the configuration kept beside it, else in one named."""
        return seed_of_training(self.ckpt_path, self.configs)


class _NameClass(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if values is not None and values != "null":
            namespace.classes[self.dest] = values


class _ReadConfig(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if "\n" not in values and ":" not in values and not Path(values).is_file():
            raise argparse.ArgumentError(self, _no_configuration(Path(values)))
        content = read_config(values)
        namespace.configs.append(content)
        for section in SECTIONS:
            named = content.get(section)
            path = named.get("class_path") if isinstance(named, Mapping) else named
            if isinstance(path, str):
                namespace.classes[section] = path
            arguments = _arguments_in(content, section)
            namespace.names[section] |= set(arguments)
            if section == "data" and isinstance(arguments.get("root"), str):
                namespace.root = arguments["root"]
        if "ckpt_path" in content:
            namespace.ckpt_path = content["ckpt_path"] if isinstance(content["ckpt_path"], str) else None


def _arguments_in(content: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Arguments of a section's class, in each of the forms that the parser reads: ``data.root`` among them."""
    named = content.get(section)
    forms = [(f"{section}.{key}", value) for key, value in named.items()] if isinstance(named, Mapping) else []
    found: dict[str, Any] = {}
    for key, value in [*content.items(), *forms]:
        name = str(key).removeprefix(f"{section}.")
        if name == "init_args" and isinstance(value, Mapping):
            found |= {str(argument): its for argument, its in value.items()}
        elif name != key and name not in ("class_path", "dict_kwargs"):
            found[name.removeprefix("init_args.")] = value
    return found


def _no_configuration(path: Path) -> str:
    folder = next((parent for parent in path.parents if parent.is_dir()), Path())
    near = sorted(map(str, (Path("configs") if folder == Path() else folder).rglob("*.yaml")))[:12]
    return f"the configuration {path} does not exist" + (f"; there are {', '.join(near)}" if near else "")


def _require_references(folder: str | None, checkpoints: Sequence[str]) -> None:
    if folder is not None and Path(folder).is_file():
        raise FileNotFoundError(
            f"--references names a folder of reference models, but {folder} is a file; a checkpoint that is to count "
            f"as one is named with {REFERENCE_CKPT} {folder}"
        )
    _require_folder(folder, "the folder of reference models {} does not exist (--references")
    for path in checkpoints:
        if not path.startswith("[") and not Path(path).exists():
            raise FileNotFoundError(f"{no_such_checkpoint(Path(path))} Name another with {REFERENCE_CKPT}.")


def with_list(args: Sequence[str], option: str = REFERENCE_CKPT) -> list[str]:
    """Bring an option that may have several values, or be there several times, to the form that the parser reads.

    Example:
        >>> with_list(["audit", "--reference_ckpt", "a.ckpt", "b.ckpt", "--top", "3", "--reference_ckpt=c.ckpt"])
        ['audit', '--top', '3', '--reference_ckpt=["a.ckpt", "b.ckpt", "c.ckpt"]']
    """
    rest, values, taking = list[str](), list[str](), False
    for word in args:
        name, equals, value = word.partition("=")
        if name == option:
            values += [value] if equals else []
            taking = not equals
        elif taking and not word.startswith("-"):
            values.append(word)
        else:
            rest.append(word)
            taking = False
    if not values:
        return list(args)
    return [*rest, f"{option}={values[0] if values[0].startswith('[') else json.dumps(values)}"]


def _require_folder(path: str | None, problem: str) -> None:
    if path is not None and not Path(path).is_dir():
        raise FileNotFoundError(f"{problem.format(path)}, looked up from {Path.cwd()})")


def completed(
    args: Sequence[str], early: EarlyArguments, *, reads_data: bool = True
) -> tuple[list[str], list[RememberedArguments]]:
    """Put what a checkpoint remembers of model and data in front of the arguments, so that the latter win.

    Args:
        args: Arguments, the command's name first.
        early: What they name.
        reads_data: Whether the folder of the data will be read.

    Returns:
        The arguments to parse, and what was added.

    Raises:
        FileNotFoundError: If the folder that the checkpoint remembers is not there; otherwise as
            :func:`~mia_lightning.checkpoints.remembered_configuration.remembered_configuration`.
    """
    from mia_lightning.checkpoints.remembered_configuration import remembered_configuration

    config, remembered = remembered_configuration(early.classes, early.names, early.ckpt_path, own_classes())
    root = config.get("data", {}).get("init_args", {}).get("root", early.root if "data" in config else None)
    if reads_data and isinstance(root, str):
        _require_folder(root, "the data folder {} does not exist (name another with --data.root")
    return ([args[0], f"--config={json.dumps(config)}", *args[1:]] if config else list(args)), remembered


def own_classes() -> dict[str, type]:
    """The models and data modules of this package, by their names."""
    from lightning.pytorch import LightningDataModule, LightningModule

    public = {name: getattr(mia_lightning, name) for name in mia_lightning.__all__}
    bases = (LightningModule, LightningDataModule)
    return {name: cls for name, cls in public.items() if inspect.isclass(cls) and issubclass(cls, bases)}
