"""Processes that train shares of the reference models."""

import sys
import time

import pytest
import torch

from mia_lightning.attacks.parallel_training import environment_of, train_in_parallel
from mia_lightning.attacks.reference_folder import ReferenceFolder

# A process that a shell started in the background ignores Ctrl-C, and so would its children.
HEAR = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def commands(program: str, count: int) -> list[list[str]]:
    return [[sys.executable, "-c", program, f"--part={i}/{count}"] for i in range(1, count + 1)]


@pytest.fixture
def shared_folder(tmp_path):
    return ReferenceFolder(tmp_path / "shared", 2, 5, {}).opened()


def test_a_part_that_fails_is_quoted_and_the_others_are_stopped(shared_folder):
    program = (
        f"{HEAR}import sys, time\n"
        "if '--part=1/2' in sys.argv: time.sleep(300)\n"
        "print('a warning'); sys.exit('mia-lightning: error: no such\\nfolder')"
    )
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=r"Part 2 of 2 stopped with status 1: no such\nfolder\nAll that it") as error:
        train_in_parallel(commands(program, 2), shared_folder, gpus=False, say=lambda text: None)
    assert time.monotonic() - started < 60
    log = shared_folder.path / "part-2-of-2.log"
    assert f"printed is in {log}." in str(error.value)
    assert "a warning" in log.read_text()


def test_a_part_that_dies_without_a_word_is_quoted_by_its_last_lines(shared_folder):
    program = "print('\\n'.join(map(str, range(99)))); raise SystemExit(3)"
    with pytest.raises(RuntimeError, match=r"(?s)Part 1 of 1 stopped with status 3: 84\n85\n.*\n98\nAll that") as error:
        train_in_parallel(commands(program, 1), shared_folder, gpus=False, say=lambda text: None)
    assert "\n83\n" not in str(error.value)


def test_ctrl_c_reaches_every_part(shared_folder):
    program = (
        f"{HEAR}import sys, time, pathlib\n"
        f"own = pathlib.Path({str(shared_folder.path)!r}) / sys.argv[1].replace('/', '-')\n"
        "own.with_suffix('.began').touch()\n"
        "try: time.sleep(300)\n"
        "except KeyboardInterrupt: own.with_suffix('.stopped').touch()"
    )

    def interrupt(text):
        while len(list(shared_folder.path.glob("*.began"))) < 2:
            time.sleep(0.05)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_in_parallel(commands(program, 2), shared_folder, gpus=False, say=interrupt)
    assert len(list(shared_folder.path.glob("*.stopped"))) == 2


def test_parts_get_their_own_gpu_or_their_share_of_the_processor(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert [environment_of(i, 3, gpus=True)["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["4", "7", "4"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [environment_of(i, 3, gpus=True)["CUDA_VISIBLE_DEVICES"] for i in range(3)] == ["0", "1", "0"]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    own = environment_of(0, 3, gpus=False)
    assert own["OMP_NUM_THREADS"] == own["MKL_NUM_THREADS"] == "2"
    assert environment_of(0, 16, gpus=False)["OMP_NUM_THREADS"] == "1"
    assert sys.path[-1] in own["PYTHONPATH"]
