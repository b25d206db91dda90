"""Training of reference models: each on a random half of the data, resumable, as a share of several if need be."""

import inspect
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, Timer
from lightning.pytorch.utilities.seed import isolate_rng

from mia_lightning.attacks.reference_folder import Reference, ReferenceFolder
from mia_lightning.audit.adapters import AutoAdapter
from mia_lightning.audit.loading import Side, Source
from mia_lightning.audit.protocols import Adapter
from mia_lightning.checkpoints.trained_weights import read_checkpoint
from mia_lightning.data.datasets import SegmentationDataset, TranslationDataset
from mia_lightning.lightning_packages.loaded import classes, package_of

# What watches a training or ends it by what a validation says; reference models have none.
WATCHERS = ("Checkpoint", "EarlyStopping", "LearningRateMonitor", "DeviceStatsMonitor", "ModelSummary")

TRAINER_SETTINGS: dict[str, Any] = {
    "logger": False,
    "limit_val_batches": 0,
    "num_sanity_val_steps": 0,
    "val_check_interval": None,
    "check_val_every_n_epoch": 1,
    "enable_model_summary": False,
}
"""Settings of every reference model's trainer: no validation, and nothing is written but the one checkpoint."""

_logger = logging.getLogger(__name__)

Build = Callable[[Mapping[str, Any]], tuple[LightningModule, Trainer]]


def train_references(  # noqa: PLR0913 - each is an option of its own
    build: Build,
    datamodule: LightningDataModule,
    folder: str | Path,
    *,
    num: int = 4,
    seed: int = 0,
    share: tuple[int, int] = (1, 1),
    config: Mapping[str, Any] | None = None,
    adapter: Adapter | None = None,
    say: Callable[[str], None] = _logger.info,
) -> ReferenceFolder:
    """Train what is not trained yet of a number of reference models, and keep each in a folder of its own.

    Model ``k`` is trained on the random half that ``datamodule.redrawn(seed + k // 2, complement=k % 2 == 1)`` holds:
    an even number makes mirrored pairs, so that every sample was known to half of the models. An interrupted training
    goes on from its last whole epoch, in another order of the samples: random states are not kept. The caller's global
    generators are left as they were.

    Args:
        build: Makes a new model and its trainer, of one device; called once a reference model, with the global
            generators seeded. It passes on to the ``Trainer`` the settings that it is called with. Callbacks that
            write checkpoints, stop by a validation or log are taken off.
        datamodule: The target's data module, with ``redrawn(seed, complement=False)`` and ``audit_dataloaders()``.
        folder: Where they are kept. A folder that holds some already must be of the same seed and ``config``.
        num: How many there are to be, at least 2.
        seed: Seed of the first half; model ``k`` begins with ``seed_everything(seed + 1 + k)``.
        share: ``(i, n)``: train the ``i``-th of ``n`` shares only, from 1, for machines or devices with one folder.
        config: What determines the models, as plain JSON values: recorded, and compared on the next call.
        adapter: Reads the ids out of batches of a data module of one's own; None is ``AutoAdapter()``.
        say: Called with a line of text at each step; by default these go to the log.

    Returns:
        The folder, for :func:`~mia_lightning.attacks.reference_scores.with_reference_scores`.

    Raises:
        TypeError: If the data module has no ``redrawn``.
        ValueError: If ``num`` or ``share`` is out of range, the folder is of another configuration or of other data,
            samples have no ids, or a trainer uses several devices
            or ``fast_dev_run``.
        RuntimeError: If a training ends before it is finished.

    Example:
        >>> import tempfile
        >>> from mia_lightning import DemoDataModule, Pix2Pix
        >>> def build(settings):
        ...     trainer = Trainer(max_steps=2, accelerator="cpu", enable_progress_bar=False, **settings)
        ...     return Pix2Pix(image_size=32, ngf=8, ndf=8), trainer
        >>> with tempfile.TemporaryDirectory() as place:
        ...     folder = train_references(build, DemoDataModule(num_pairs=8, image_size=32), place, num=2)
        ...     [reference.number for reference in folder.finished()]
        [0, 1]
    """
    index, shares = share
    if num < 2:
        raise ValueError(f"Expected num of at least 2 reference models, but got {num}.")
    if not 1 <= index <= shares:
        raise ValueError(f"Expected share=(i, n) with 1 <= i <= n, but got {share}.")
    opened = open_folder(datamodule, folder, num=num, seed=seed, config=config)
    for number in range(index - 1, num, shares):
        reference = opened.reference(number)
        name = f"Reference model {number + 1} of {num} ({reference.folder})"
        if reference.finished:
            say(f"{name} is trained already.")
            continue
        # One more: the first must not begin with the weights of the target, which has the seed itself.
        weights_seed = seed + 1 + number
        train_half(reference, opened.half(number, datamodule), build, name, weights_seed, adapter=adapter, say=say)
    return opened


def open_folder(
    datamodule: LightningDataModule, folder: str | Path, *, num: int, seed: int, config: Mapping[str, Any] | None
) -> ReferenceFolder:
    """Check the data module, then make the folder of reference models, or join the one that is there.

    The arguments are those of :func:`train_references`.

    Raises:
        TypeError: If the data module has no ``redrawn``.
        ValueError: If the folder is of another configuration.
    """
    check_redrawn(datamodule, "reference models")
    datamodule.prepare_data()
    cast(Any, datamodule).redrawn(seed)  # raises what is wrong with the data, before anything is written
    return ReferenceFolder(Path(folder), num, seed, dict(config or {})).opened()


def check_redrawn(datamodule: object, whose: str) -> None:
    """Raise a TypeError for a data module whose coins cannot be flipped anew; ``whose`` names the models in it."""
    if datamodule is None:
        raise TypeError(
            f"There is no data module, and {whose} are trained on new coin-flip halves of the data: name one with "
            "--data CLASS that has redrawn(seed, complement=False), as those of mia_lightning have."
        )
    for name in ("redrawn(seed, complement=False)", "audit_dataloaders()"):
        if not callable(getattr(datamodule, name.partition("(")[0], None)):
            raise TypeError(
                f"{type(datamodule).__name__} has no {name}: {whose} are trained on new coin-flip halves, so their "
                "data module must return a copy of itself whose members are such a half of its members and "
                "nonmembers, and give both, as those of mia_lightning do."
            )


def check_trainer(trainer: Trainer) -> None:
    """Raise a ValueError for a trainer of several devices, or one that writes no checkpoint."""
    if cast(Any, trainer).fast_dev_run:
        raise ValueError(
            "Trainer(fast_dev_run=True) writes no checkpoint, and reference models are checkpoints. Rehearse with "
            "max_epochs=1, limit_train_batches=1 and a folder of its own."
        )
    if (devices := trainer.num_devices * trainer.num_nodes) != 1:
        raise ValueError(
            f"Each reference model is trained on one device, but trainer.devices={trainer.num_devices} and "
            f"trainer.num_nodes={trainer.num_nodes} ask for {devices}. Pass --trainer.devices=1; several devices train "
            "several reference models with --parallel or --part."
        )


def sample_ids(source: Source, owner: str, adapter: Adapter | None = None) -> list[str]:
    """Ids of the samples of one side; a ValueError that names the data module where its batches carry none."""
    dataset = getattr(source, "dataset", source)
    if isinstance(dataset, (TranslationDataset, SegmentationDataset)):
        return [record.id for record in dataset.records]
    ids: list[str] = []
    side = Side("sample", source, max_samples=None, batch_size=16, num_workers=0, seed=0)
    for _, batch in side.batches():
        found = (adapter or AutoAdapter()).unpack(batch).id
        if found is None:
            raise ValueError(
                f"The batches of {owner} carry no ids, so the samples of a reference model could not be told apart "
                "later. Return (input, target, id) or a dict with an 'id', or pass an adapter that finds them."
            )
        ids += found
    return ids


@contextmanager
def _seeds_of_its_own() -> Iterator[None]:
    """Put back the states of the global generators, and the seed that Lightning hands on in the environment."""
    names = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
    before = {name: os.environ.pop(name, None) for name in names}
    try:
        with isolate_rng():
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def train_half(
    reference: Reference,
    half: Callable[[], Any],
    build: Build,
    name: str,
    seed: int,
    *,
    adapter: Adapter | None = None,
    say: Callable[[str], None] = _logger.info,
) -> None:
    """Train one model on the members of a data module; go on where it was interrupted.

    The caller's global generators are left as they were.

    Args:
        reference: Where it is kept.
        half: Makes the data module, with ``audit_dataloaders()``.
        build: As for :func:`train_references`.
        name: What the model is called on the screen.
        seed: What the global generators are seeded with before the model is built.
        adapter: As for :func:`train_references`.
        say: As for :func:`train_references`.

    Raises:
        ValueError: As :func:`train_references`.
        RuntimeError: If the training ends before it is finished.
    """
    with _seeds_of_its_own():
        data = half()
        sides = [sample_ids(source, type(data).__name__, adapter) for source in data.audit_dataloaders()]
        reference.assign(*sides)
        say(f"{name}: {len(sides[0])} of {len(sides[0]) + len(sides[1])} samples.")
        resumed = reference.checkpoint if reference.checkpoint.is_file() else None
        if resumed is not None:
            say(f"It goes on from {resumed}.")
        seed_everything(seed, workers=True, verbose=False)
        model, trainer = build({**TRAINER_SETTINGS, "default_root_dir": str(reference.folder)})
        check_trainer(trainer)
        timer = _keep_one_checkpoint(trainer, reference)
        if "audit" in model.hparams:
            model.hparams["audit"] = False
        with warnings.catch_warnings():
            # The folder holds the ids of the samples, and the checkpoint that the training goes on from.
            warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
            options: dict[str, Any] = {"ckpt_path": resumed, "weights_only": True if resumed else None}
            if "weights_only" not in inspect.signature(trainer.fit).parameters:
                del options["weights_only"]  # Lightning before 2.6 would unpickle: only what needs no unpickling
                if resumed is not None:
                    read_checkpoint(resumed)
            trainer.fit(model, datamodule=data, **options)
        if not trainer.state.finished or not reference.checkpoint.is_file():
            raise RuntimeError(f"{name} was not trained to its end (trainer: {trainer.state.status}).")
        reference.finish(timer.time_elapsed(), trainer.current_epoch)


def _keep_one_checkpoint(trainer: Trainer, reference: Reference) -> Timer:
    """Put in place of a trainer's watchers what keeps the state after each epoch, and the time of all sessions."""
    watchers = tuple(cls for name in WATCHERS for cls in classes(f"callbacks.{name}"))
    callbacks: list[Callback] = [
        c for c in cast(Any, trainer).callbacks if not isinstance(c, watchers) and not hasattr(c, "auditor")
    ]
    of_trainer = cast(Any, package_of(type(trainer))).callbacks
    # One is there where max_time is set, and Lightning allows no second.
    timer = next((c for c in callbacks if isinstance(c, classes("callbacks.Timer"))), None)
    if timer is None:
        timer = of_trainer.Timer()
        callbacks.append(timer)
    path = reference.checkpoint
    checkpoint = of_trainer.ModelCheckpoint(
        path.parent, path.stem, every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    cast(Any, trainer).callbacks = [*callbacks, checkpoint]
    return cast(Timer, timer)
