"""What is mistyped is answered by the line that helps; wrong paths before anything heavy is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from mia_lightning.cli.early_arguments import EarlyArguments
from mia_lightning.cli.main import main
from mia_lightning.cli.options import LIGHTNING_COMMANDS

WBC, CAMVID = (
    str(Path(__file__).parents[2] / "configs" / "segmentation" / f"{name}.yaml") for name in ("wbc", "camvid")
)


@pytest.fixture(autouse=True)
def inside_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("data/wbc").mkdir(parents=True)
    Path("there/other.ckpt").touch()


def errors(capsys, args):
    with pytest.raises(SystemExit) as stopped:
        main(args)
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "usage:" not in shown.err
    first, second = shown.err.splitlines()
    assert second.startswith(f"mia-lightning {args[0]}")
    assert second.endswith("--help all lists all options.")
    return first.removeprefix("mia-lightning: error: ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["demo", "--tsk=x"], "unknown option '--tsk' (did you mean '--task'?); options there are --help, --task"),
        (["demo", "--task"], "--task needs a value"),
        (["demo", "--task=painting"], "--task: expected one of 'translation', 'segmentation', but got 'painting'"),
        (["demo", "--epochs=many"], "--epochs: expected int or null, but got 'many'"),
        (["demo", "extra"], "unexpected 'extra': options begin with --, and a value follows its option"),
        (["report", "a", "--frmat", "html"], "unknown option '--frmat' (did you mean '--format'?)"),
        (["report", "a", "--output_dir"], "--output_dir needs a value"),
        (["report", "a", "--format", "pdf"], "--format: invalid choice: 'pdf' (choose from 'html', 'markdown', "),
        (["evidence", "--suspcts=a"], "unknown option '--suspcts' (did you mean '--suspects'?)"),
        (["evidence", "--suspects"], "--suspects needs a value"),
        (
            ["evidence", "--task=art"],
            "--task: expected one of 'auto', 'translation', 'segmentation', 'multilabel', but got 'art'",
        ),
        (["evidence", "--level=low"], "--level: expected float, but got 'low'"),
        (["audit", "--outputs"], "--outputs needs a value"),
        (["audit", "--outputs=there", "--tsk=x"], "unknown option '--tsk' (did you mean '--task'?)"),
        (["audit", "--outputs=there", "--task=art"], "--task: expected one of 'auto', 'translation', 'segmentation'"),
        (["audit", "-c", WBC, "--tp=3"], "unknown option '--tp' (did you mean '--top'?)"),
        (["audit", "-c", WBC, "--members=all"], "--members: expected one of 'train', 'val', 'test', 'predict', but "),
        (["references", "-c", WBC, "--nm=3"], "unknown option '--nm' (did you mean '--num'?)"),
        (["references", "-c", WBC, "--num=many"], "--num: expected int, but got 'many'"),
        (["fit", "-c"], "--config needs a value"),
        (["fit", "-c", WBC, "--audit.alpha"], "--audit.alpha needs a value"),
        (["fit", "-c", WBC, "--audit.max_samples=many"], "--audit.max_samples: expected int or null, but got 'many'"),
        (["fit", "-c", WBC, "--audit.task=art"], "--audit.task: expected one of 'auto', 'translation', 'segment"),
        (["fit", "-c", WBC, "--model.norm=odd"], "--model.norm: expected one of 'batch', 'instance', 'group', 'none'"),
        (["fit", "-c", WBC, "--trainr.devices=1"], "unknown option '--trainr.devices' (did you mean"),
        # Never abbreviated: what is short for one option would be short for another in the next version.
        (["demo", "--epoch=1"], "unknown option '--epoch' (did you mean '--epochs'?)"),
        (["report", "a", "--compar", "b"], "unknown option '--compar' (did you mean '--compare'?)"),
        (["evidence", "--suspect=a"], "unknown option '--suspect' (did you mean '--suspects'?)"),
        (
            ["audit", "--outputs=there", "--max_sample=3"],
            "unknown option '--max_sample' (did you mean '--max_samples'?)",
        ),
        (["audit", "-c", WBC, "--output_di=x"], "unknown option '--output_di' (did you mean '--output_dir'?)"),
        (
            ["fit", "-c", WBC, "--audit.max_sample=3"],
            "unknown option '--audit.max_sample' (did you mean '--audit.max_sa",
        ),
        (["references", "-c", WBC, "--paralle=3"], "unknown option '--paralle' (did you mean '--parallel'?)"),
        (
            ["fit", "-c", WBC, "--trainer.max_epoch=1"],
            "unknown option '--trainer.max_epoch' (did you mean '--trainer.ma",
        ),
        (
            ["fit", "-c", WBC, "--model.base_channel=1"],
            "UNetSegmenter has no option 'base_channel' (did you mean 'base_",
        ),
        (["fit", "-c", WBC, "--model=pathlib.Path"], "--model: expected a LightningModule, but pathlib.Path is none"),
        (["fit", "-c", WBC, "--model=Pix2Pixel"], "--model: expected the name of a class or its import path, but got "),
    ],
    ids=lambda value: " ".join(Path(v).name for v in value) if isinstance(value, list) else "",
)
def test_the_first_line_helps(capsys, args, message):
    assert errors(capsys, args).startswith(message)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=pytest.mark.slow if command in ("validate", "test", "predict") else ())
        for command in LIGHTNING_COMMANDS
    ],
)
def test_nested_options_are_named_by_every_command(capsys, command):
    run = [command, "-c", WBC]
    message = errors(capsys, [*run, "--audit.alfa=2"])
    assert message.startswith("unknown option '--audit.alfa' (did you mean '--audit.alpha'?); options there are ")
    message = errors(capsys, [*run, "--model.xyz=1"])
    assert message.startswith("UNetSegmenter has no option 'xyz'; its options are num_classes, ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fit", "-c", "no.yaml"], "--config: the configuration no.yaml does not exist"),
        (["fit", "-c", WBC, "--data.root=nowhere"], "the data folder nowhere does not exist (--data.root"),
        (["references", "-c", WBC, "--data.init_args.root", "nowhere"], "the data folder nowhere does not exist"),
        (["fit", "-c", CAMVID], "the data folder data/camvid does not exist (--data.root"),
        (["audit", "-c", WBC, "--ckpt_path=there/no.ckpt"], "The checkpoint there/no.ckpt does not exist. Checkpoints"),
        (["test", "-c", WBC, "--ckpt_path=no.ckpt"], "The checkpoint no.ckpt does not exist."),
        (["audit", "--model=a.B", "--ckpt_path", "no.ckpt"], "The checkpoint no.ckpt does not exist."),
        (["audit", "-c", WBC, "--references=nowhere"], "the folder of reference models nowhere does not exist"),
        (["audit", "--outputs=nowhere"], "no folder 'nowhere'"),
        (["evidence", "--task=translation", "--suspects=there", "--reference=nowhere"], "no folder 'nowhere'"),
        (["evidence", "-c", WBC, "--ckpt_path=no.ckpt", "--suspects=there"], "The checkpoint no.ckpt does not exist."),
        (["evidence", "-c", WBC, "--suspects=nowhere", "--reference=there"], "no folder 'nowhere'"),
        (["report", "nowhere"], "There is no nowhere. Expected a run's folder"),
        (["report", "--compare", "there", "nowhere"], "There is no nowhere. Expected a run's folder"),
    ],
    ids=lambda value: " ".join(Path(v).name for v in value) if isinstance(value, list) else "",
)
def test_a_wrong_path_is_noticed_before_torch_is_imported(tmp_path, args, message):
    code = f"""
import sys
from mia_lightning.cli.main import main
try:
    main({args!r})
except SystemExit as stopped:
    assert stopped.code in (1, 2)
assert not {{"torch", "lightning", "scipy", "sklearn"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"mia-lightning: error: {message}")


def test_what_lightning_finds_itself_is_left_to_it(capsys):
    with pytest.raises(SystemExit):
        main(["test", "-c", WBC, "--ckpt_path=best", "--audit.alfa=2"])
    assert "unknown option '--audit.alfa'" in capsys.readouterr().err


def test_a_folder_that_nothing_is_read_from_may_be_missing():
    for options in (["--data.root=nowhere", "--data=DemoDataModule"], ["--data.help"], ["--print_config"]):
        EarlyArguments.of(["-c", CAMVID, *options]).check("fit")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        EarlyArguments.of(["-c", CAMVID, "--data.root=nowhere"]).check("fit")
    Path("data/camvid").mkdir()
    EarlyArguments.of(["-c", CAMVID]).check("fit")
