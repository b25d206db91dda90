"""``mia-lightning data``: which data sets are known by name, and whether a folder holds what a training needs."""

from __future__ import annotations

import json
from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mia_lightning.cli.fail_above import fail_with
from mia_lightning.cli.parser import Helpful
from mia_lightning.cli.terminal import add_to_json, progress_bar
from mia_lightning.data.presets import find_preset, preset_names
from mia_lightning.data.presets.preset import MODULES, Layout, Preset, Task
from mia_lightning.functional.documented_arguments import documented_arguments

if TYPE_CHECKING:
    from mia_lightning.data.auditable import AuditableDataModule
    from mia_lightning.data.data_check import DataCheck

_USAGE = """mia-lightning data check ROOT --preset NAME [--output DIR] [options]
       mia-lightning data list [NAME]"""
_DESCRIPTION = """'check' reads all files of a folder as a training would, and says what is there, what is missing,
which files cannot be read or are another size or mode than the rest, how often each class occurs, and which pictures
are the same or look alike, on both sides above all. Exit code 1 where something would spoil a training or its audit.
'list' names the data sets that are known, or says of one where to get it, on what terms, and how it lies on disk."""
_NOT_HERE = ("root", "preset", "image_size", "augment", "batch_size", "eval_batch_size", "num_workers", "cache_dir")
_FIRST = ("action", "root", "preset", "output", "task", "num_classes", "ignore_index", "membership", "group_column")
_FILES: dict[Task, str] = {"segmentation": "data.segmentation", "translation": "data.paired"}


def data_parser() -> Helpful:
    """Declare the options, among them the arguments of both data modules, without importing these."""
    parser = Helpful(prog="mia-lightning data", usage=_USAGE, description=_DESCRIPTION, first_screen=_FIRST)
    parser.add_argument("action", type=Literal["check", "list"], metavar="check|list", help="What to do.")
    parser.add_argument("root", nargs="?", type=str, metavar="ROOT", help="Folder of the data set; of list a name.")
    names = f"Data set, of {', '.join(preset_names())}; folders if left."
    parser.add_argument("--preset", type=str, metavar="NAME", help=names)
    sheet = "Folder for sample_sheet.png and data_check.json; nothing is written without it."
    parser.add_argument("--output", type=str, metavar="DIR", help=sheet)
    task = "segmentation or translation; what the folder's layout serves if left."
    parser.add_argument("--task", type=Literal["segmentation", "translation"] | None, metavar="NAME", help=task)
    for name, text in _arguments().items():
        # None, written null, says that there is none; what is left is not there at all.
        parser.add_argument(f"--{name}", type=Any, default=SUPPRESS, metavar="VALUE", help=text.replace("%", "%%"))
    return parser


def data_command(args: Sequence[str]) -> None:
    """Check a folder, or list presets.

    Args:
        args: Arguments after the command's name.

    Raises:
        OSError: If the folder does not exist.
        ValueError: If there is no such preset, or options do not fit together.
    """
    options = data_parser().parse_args(list(args))
    if options.action == "list":
        _list(options.root)
    elif options.root is None:
        raise ValueError("Name the folder to check: mia-lightning data check ROOT --preset NAME.")
    else:
        passed = {name: options[name] for name in _arguments() if name in options}
        _check(Path(options.root), options.preset, options.task, options.output, passed)


def _arguments() -> dict[str, str]:
    """Arguments of the data modules that a check needs, with what they mean."""
    texts: dict[str, str] = {}
    for task, file in _FILES.items():
        texts = documented_arguments(file, MODULES[task]) | texts
    return {name: text for name, text in texts.items() if name not in _NOT_HERE}


def _check(root: Path, name: str | None, asked: Task | None, output: str | None, passed: dict[str, Any]) -> None:
    preset = find_preset(name or "folders")
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise FileNotFoundError(f"the data folder {root} {what} (looked up from {Path.cwd()})")
    if output is not None and Path(output).is_file():
        raise ValueError(f"--output names a folder to write into, but {output} is a file.")
    served = [own for own in preset.tasks if preset.layout_in(root, own)]
    task = asked if asked is not None else (served or list(preset.tasks))[0]
    layout = preset.layout_in(root, task)
    if layout is None and not {"image_dir", "mask_dir", "input_dir", "target_dir", "layout"} & passed.keys():
        raise FileNotFoundError(_no_layout(root, preset, task))
    layout = layout or preset.layouts_of(task)[0]

    # Seconds of imports, which a wrong folder does without.
    from mia_lightning.data.data_check import check_data
    from mia_lightning.data.module_of_task import module_of_task, settings_by_files

    passed, notes = settings_by_files(root, preset, task, passed)
    module = module_of_task(root, preset, task, passed)
    whole = dict(layout.pairs) if "only_splits" not in passed else {}
    check = check_data(module, progress_bar(), expected=whole, group=layout.group)
    _print(check, preset, layout, task, notes)
    files = [] if output is None else _write(module, check, preset, layout, Path(output))
    add_to_json(data_check=check.to_dict() | {"preset": preset.name, "layout": layout.name, "task": task})
    if files:
        from rich.console import Console
        from rich.text import Text

        Console().print(Text(f"Written: {', '.join(map(str, files))}"), soft_wrap=True)
        add_to_json(files=[str(path) for path in files])
    if check.faults:
        fail_with(1)


def _no_layout(root: Path, preset: Preset, task: Task) -> str:
    """Say what a preset looks for in vain, and which presets would find what they look for."""
    there = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    if not there:
        return f"the folder {root} is empty: expected {preset.title}, see {preset.url}"
    wanted = "; ".join(f"{', '.join(layout.signs)} ({layout.name})" for layout in preset.layouts_of(task))
    lacking = "; ".join(
        f"{', '.join(missing)} ({layout.name})"
        for layout in preset.layouts_of(task)
        if (missing := layout.missing(root)) and len(missing) < len(layout.signs)
    )
    others = [name for name in preset_names() if name != preset.name and _fits(root, name)]
    return (
        f"{root} does not hold {preset.title} in a form that is known: expected {wanted}, and found "
        f"{', '.join(there[:12])}{', ...' if len(there) > 12 else ''}."
        + (f" Missing: {lacking}." if lacking else "")
        + (f" Presets that find what they look for: {', '.join(others)}." if others else "")
        + " For folders of your own: --preset folders with --image_dir and --mask_dir."
    )


def _fits(root: Path, name: str) -> bool:
    preset = find_preset(name)
    return any(layout.signs and layout.fits(root) for layout in preset.layouts)


def _write(module: AuditableDataModule, check: DataCheck, preset: Preset, layout: Layout, folder: Path) -> list[Path]:
    from mia_lightning.data.sample_sheet import draw_sheet, write_sheet
    from mia_lightning.result.atomic_files import write_bytes_atomically

    files = []
    if check.records:
        files.append(write_sheet(draw_sheet(module, check, preset.colours_of(layout)), folder))
    text = json.dumps(check.to_dict() | {"preset": preset.name}, indent=1)
    folder.mkdir(parents=True, exist_ok=True)
    return [*files, write_bytes_atomically(folder / "data_check.json", text.encode())]


def _print(check: DataCheck, preset: Preset, layout: Layout, task: Task, notes: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text(f"{preset.title}, {layout.name}, in {check.root}, for {task}"), style="bold", soft_wrap=True)
    lines = [f"Licence: {preset.licence}."]
    if check.splits:
        parts = [f"{split} {count:,}" for split, count in check.splits.items()]
        lines.append(f"Pairs: {sum(check.splits.values()):,} ({', '.join(parts)}).")
        by = "randomised assignment" if check.assignment == "coin" else "splits"
        lines.append(f"Sides, by {by}: {check.members:,} members, {check.nonmembers:,} nonmembers.")
    if check.groups:
        parts = [f"{count:,} of {size} pair{'' if size == 1 else 's'}" for size, count in check.groups.items()]
        lines.append(f"Groups ({check.group}): {sum(check.groups.values()):,}; {', '.join(parts)}.")
    for name, counts in (("Sizes", check.sizes), ("Modes of inputs", check.modes[0]), ("of targets", check.modes[1])):
        if counts:
            shown = ", ".join(f"{value} ({count:,})" for value, count in list(counts.items())[:6])
            lines.append(f"{name}: {shown}{f', ... ({len(counts)} in all)' if len(counts) > 6 else ''}.")
    for line in [*lines, *notes]:
        console.print(Text(line), soft_wrap=True)
    if check.classes:
        table = Table("id", "class", "share of pixels", "label maps", box=None, pad_edge=False)
        for share in check.classes:
            table.add_row(str(share.id), share.name, f"{share.pixels:.2%}", f"{share.samples:,}")
        console.print(table)
    styles = {"fault": "bold red", "warning": "yellow", "note": ""}
    for finding in check.findings:
        label = Text(f"{finding.level.capitalize()}: ", style=styles[finding.level])
        console.print(Text.assemble(label, finding.text), soft_wrap=True)
    faults, warnings = len(check.faults), sum(finding.level == "warning" for finding in check.findings)
    if faults:
        console.print(Text(f"{faults} faults that would spoil a training or its audit, {warnings} warnings."))
    else:
        console.print(Text(f"Nothing found that would spoil a training ({warnings} warnings)."))


def _list(name: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    presets = [find_preset(n) for n in (preset_names() if name is None else [name])]
    add_to_json(presets=[_plain(preset) for preset in presets])
    if name is None:
        table = Table("name", "what", "classes", "tasks", "licence", box=None, pad_edge=False)
        for preset in presets:
            table.add_row(
                preset.name, preset.about, str(len(preset.classes) or "-"), ", ".join(preset.tasks), preset.licence
            )
        console.print(table)
        return
    (preset,) = presets
    lines = [f"{preset.title}: {preset.about}", f"Get it: {preset.url}", f"Licence: {preset.licence}"]
    lines += [f"Classes: {', '.join(preset.classes)}"] if preset.classes else []
    lines += [f"Layout {layout.name} ({', '.join(layout.tasks)}): {_where(layout)}" for layout in preset.layouts]
    for line in [*lines, *([preset.note] if preset.note else [])]:
        console.print(Text(line), soft_wrap=True)


def _where(layout: Layout) -> str:
    """How a layout lies on disk, in words."""
    pairs = ", ".join(f"{split} {count:,}" for split, count in layout.pairs.items())
    counts = f"; pairs: {pairs}" if pairs else ""
    if layout.side_by_side:
        return f"files of two images, the input on the {layout.side_by_side}{counts}"
    if layout.objects:
        return f"a folder a sample with {layout.images}/ and {layout.masks}/, one mask an object{counts}"
    return f"{layout.images}/*{layout.image_end} and {layout.masks}/*{layout.mask_end}{counts}"


def _plain(preset: Preset) -> dict[str, Any]:
    names = ("name", "title", "about", "url", "licence", "classes", "note", "tasks")
    return {name: getattr(preset, name) for name in names} | {
        "layouts": [{"name": own.name, "signs": own.signs, "pairs": dict(own.pairs)} for own in preset.layouts]
    }
