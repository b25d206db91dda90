"""Help comes at once, fits a screen, and names options that exist."""

import os
import subprocess
import sys

import pytest

from mia_lightning.cli.main import COMMANDS, main
from mia_lightning.cli.options import LIGHTNING_COMMANDS, lightning_parser

HEAVY = ("torch", "lightning", "sklearn", "scipy", "matplotlib", "torchmetrics", "albumentations")
SCREENS = [[], *([name] for name in COMMANDS), ["audit", "--outputs", "nowhere"]]


def options_of(parser):
    return {s for action in parser._actions for s in action.option_strings}


@pytest.mark.parametrize("command", SCREENS, ids=" ".join)
def test_the_first_screen_fits_sixty_lines_of_eighty_columns(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    if command:
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--help"])
        assert stopped.value.code == 0
    else:
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"usage: mia-lightning {' '.join(command[:2]) or 'COMMAND'}")


@pytest.mark.parametrize("command", SCREENS, ids=" ".join)
def test_nothing_heavy_is_imported_for_it(command):
    code = f"""
import runpy, sys
sys.argv = ["mia-lightning", *{command!r}, "--help"]
try:
    runpy.run_module("mia_lightning", run_name="__main__")
except SystemExit as stopped:
    assert stopped.code in (None, 0)
print(sorted({{m.split('.')[0] for m in sys.modules}} & set({HEAVY!r})), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: mia-lightning")
    assert done.stderr.strip() == "[]"


@pytest.fixture(scope="module")
def real_parsers():
    """Option strings of the parsers that Lightning builds, by command."""
    from mia_lightning.cli.benchmark_command import BenchmarkCLI
    from mia_lightning.cli.lightning_commands import AuditCLI
    from mia_lightning.cli.references_command import ReferencesCLI

    found, of_several = {}, {"references": ReferencesCLI, "benchmark": BenchmarkCLI}

    def parse_arguments(self, parser, args):
        found[args[0]] = options_of(self._parser(args[0]))
        raise InterruptedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AuditCLI, "parse_arguments", parse_arguments)
        for command in LIGHTNING_COMMANDS:
            with pytest.raises(InterruptedError):
                of_several.get(command, AuditCLI)(args=[command])
    return found


@pytest.mark.parametrize("command", LIGHTNING_COMMANDS)
def test_every_option_of_a_first_screen_exists(command, real_parsers):
    # A short form of --audit.fail_above, which is read before the parser.
    assert "--audit.fail_above" in real_parsers["fit"] & real_parsers["audit"]
    shown = options_of(lightning_parser(command)) - {"--print_shtab", "--fail_above"}
    assert {"--help", "--config", "--model"} <= shown
    assert shown <= real_parsers[command]
    assert len(shown) < len(real_parsers[command]), "--help all shows more"


@pytest.mark.parametrize(("command", "option"), [("fit", "--trainer.val_check_interval"), ("evidence", "--batch_size")])
def test_help_all_shows_the_rest(command, option, capsys):
    texts = []
    for args in ([command, "--help"], [command, "--help", "all"]):
        with pytest.raises(SystemExit) as stopped:
            main(args)
        assert stopped.value.code == 0
        texts.append(capsys.readouterr().out)
    assert option not in texts[0]
    assert f"{option} " in texts[1]
    assert "--help all" in texts[0]


def test_completion_of_commands_options_and_files(tmp_path, capsys):
    pytest.importorskip("shtab", reason="the extra 'completion' is not installed")
    main(["--print_completion", "bash"])
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)
    name = "_shtab_mia_lightning"

    def completed(*words):
        line = " ".join(repr(word) for word in words)
        code = f"source {script}; COMP_WORDS=(mia-lightning {line}); COMP_CWORD={len(words)}; {name}; "
        done = subprocess.run(
            ["bash", "-c", f"{code} printf '%s\\n' \"${{COMPREPLY[@]}}\""],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env=os.environ,
        )
        return done.stdout.split()

    assert set(completed("")) >= set(COMMANDS)
    assert completed("re") == ["report", "references"]
    assert "--audit.max_samples" in completed("fit", "--audit.m")
    assert completed("demo", "--task", "seg") == ["segmentation"]


def test_completion_of_an_unknown_shell_names_those_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["--print_completion", "fish"])
    assert "Expected --print_completion SHELL with one of bash, zsh, tcsh, but got ['fish']" in capsys.readouterr().err
