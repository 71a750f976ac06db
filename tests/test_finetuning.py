from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from finetune_helpers import (
    SHAPE,
    ball,
    ball_model,
    ball_settings,
    write_case,
    write_dataset,
    write_map,
)
from napari_structseg.cli import main
from napari_structseg.correction.actions import Correction
from napari_structseg.correction.autosave import Autosave
from napari_structseg.correction.identity import identify
from napari_structseg.data.cases import UNREVIEWED
from napari_structseg.distributions import Strokes
from napari_structseg.errors import Cancelled, ConfigError, Diverged, InputError
from napari_structseg.finetuning.cases import read_cases
from napari_structseg.finetuning.events import Ended, Event, Scored, Stepped, Written
from napari_structseg.finetuning.gate import Gate
from napari_structseg.finetuning.made_for import dropped_in_words
from napari_structseg.finetuning.report import read_report
from napari_structseg.finetuning.run import PARENT_NAME, TUNED_NAME, finetune
from napari_structseg.finetuning.split import split
from napari_structseg.finetuning.start import learning_names, training_config, with_stochastic_head
from napari_structseg.io.nifti import read_image
from napari_structseg.io.weights import load_weights
from napari_structseg.models import (
    CalibrationSpec,
    ClassSpec,
    DomainSpec,
    SeenSpec,
    TrainingRecord,
)
from napari_structseg.prediction.domain_statistics import statistics_of_image
from napari_structseg.priors import PriorSpec
from napari_structseg.priors.contrast import CRFSpec
from napari_structseg.training.sections import MaxMarginConfig, PriorConfig
from napari_structseg.training.trainer import WEIGHTS_NAME
from tiny_models import tiny_model


def same_tensors(first: Path, second: Path) -> bool:
    ours, theirs = load_file(first), load_file(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def changed_tensors(first: Path, second: Path) -> set[str]:
    ours, theirs = load_file(first), load_file(second)
    return {name for name in ours if not torch.equal(ours[name], theirs[name])}


@pytest.mark.parametrize(
    "kind",
    ["low_rank", "point", "latent", "hierarchical", "heads", "ensemble", "dropout"],
)
def test_every_kind_of_model_learns_from_a_corrected_case(tmp_path: Path, kind: str) -> None:
    extra = {}
    if kind == "hierarchical":
        from napari_structseg.models import HeadSpec

        extra = {"head": HeadSpec(kind=kind, latent_scales=1)}
    model = ball_model(tmp_path, kind, **extra)
    before = model.read_bytes()
    settings = ball_settings(tmp_path, model=str(model), steps=2, validate_every=2)
    report = finetune(settings, tmp_path / "run")
    assert model.read_bytes() == before
    assert (tmp_path / "run" / PARENT_NAME).read_bytes() == before
    assert changed_tensors(model, tmp_path / "run" / WEIGHTS_NAME)
    assert report.corrections.before is not None
    assert report.corrections.after is not None
    assert load_weights(tmp_path / "run" / TUNED_NAME)[1].training.initial == report.parent


def test_it_learns(tmp_path: Path) -> None:
    settings = ball_settings(
        tmp_path, steps=40, learning_rate=2e-2, validate_every=20, pull=0, patch=(16, 16, 16)
    )
    report = finetune(settings, tmp_path / "run")
    scores = report.corrections
    assert scores.helped
    assert scores.after.mean_dice > 0.5 > scores.before.mean_dice
    assert read_report(tmp_path / "run") == report


@pytest.mark.parametrize("what", ["last", "head"])
def test_only_what_was_chosen_learns(tmp_path: Path, what: str) -> None:
    settings = ball_settings(tmp_path, what=what, held_out=0, steps=2)
    finetune(settings, tmp_path / "run")
    changed = changed_tensors(Path(settings.model), tmp_path / "run" / TUNED_NAME)
    parts = {name.rpartition(".")[0].split(".")[0] for name in changed}
    assert parts == ({"head"} if what == "head" else {"head", "backbone"})
    assert not any(name.startswith("backbone.down") for name in changed)


def test_every_level_below_the_last_is_left_out_of_the_last_layers(tmp_path: Path) -> None:
    network, _ = load_weights(ball_model(tmp_path, "latent"))
    last, head, everything = (learning_names(network, what) for what in ("last", "head", "all"))
    assert head < last < everything
    assert everything == {name for name, _ in network.named_parameters()}
    assert "prior_encoder.statistics.weight" in head


def test_the_pull_holds_weights_near_the_start(tmp_path: Path) -> None:
    model = ball_model(tmp_path)
    start = load_file(model)

    def distance(pull: float) -> float:
        folder = tmp_path / f"run-{pull}"
        settings = ball_settings(tmp_path, model=str(model), held_out=0, pull=pull, steps=20)
        finetune(settings, folder)
        tuned = load_file(folder / TUNED_NAME)
        return sum(float((tuned[k] - start[k]).square().sum()) for k in start)

    free, held = distance(0), distance(0.5)
    assert held < 0.2 * free
    assert distance(1) < held


def test_cancelling_keeps_a_checkpoint_and_the_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    settings = ball_settings(tmp_path)
    finetune(settings, tmp_path / "straight")
    gate = Gate()

    def tell(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 4:
            gate.cancel("enough")

    with pytest.raises(Cancelled):
        finetune(settings, tmp_path / "halves", tell=tell, gate=gate)
    assert not (tmp_path / "halves" / TUNED_NAME).exists()
    finetune(settings, tmp_path / "halves", resume=True)
    assert same_tensors(tmp_path / "straight" / TUNED_NAME, tmp_path / "halves" / TUNED_NAME)


def test_waiting_at_the_gate_changes_no_number(tmp_path: Path) -> None:
    settings = ball_settings(tmp_path)
    finetune(settings, tmp_path / "straight")
    gate = Gate()

    def tell(event: Event) -> None:
        if isinstance(event, Stepped):
            gate.step_aside(0.01)

    finetune(settings, tmp_path / "aside", tell=tell, gate=gate)
    assert gate.waited_seconds > 0
    assert same_tensors(tmp_path / "straight" / TUNED_NAME, tmp_path / "aside" / TUNED_NAME)


def test_weights_can_be_looked_at_while_it_runs(tmp_path: Path) -> None:
    seen = []

    def tell(event: Event) -> None:
        if isinstance(event, Written):
            seen.append((event.step, load_weights(event.path)[1].training.steps))

    finetune(ball_settings(tmp_path), tmp_path / "run", tell=tell)
    assert seen == [(2, 2), (4, 4), (6, 6)]


def test_numbers_that_are_not_finite_end_the_run_with_the_last_good_weights(
    tmp_path: Path,
) -> None:
    # The first step is so long that the numbers overflow.
    settings = ball_settings(tmp_path, learning_rate=1e30, steps=40, held_out=0)
    with pytest.raises(Diverged, match="lower learning rate"):
        finetune(settings, tmp_path / "run")
    assert same_tensors(Path(settings.model), tmp_path / "run" / WEIGHTS_NAME)
    assert not (tmp_path / "run" / TUNED_NAME).exists()


def test_a_session_is_learned_from(tmp_path: Path) -> None:
    case = write_case(tmp_path)
    image = read_image(case["image"][0])
    labels = ball()[1]
    said = np.zeros(SHAPE, np.uint8)
    said[10, 9, 4:12] = 2
    correction = Correction(SHAPE, 2)
    classes = load_weights(ball_model(tmp_path))[1].classes
    autosave = Autosave(correction, identify(image, case["image"][0]), classes)
    correction.accept(labels, name="accept")
    correction.lock_region(labels == 1, name="lock")
    correction.set_strokes(Strokes.from_array(said, 2), name="strokes")
    assert autosave.close(60)
    folder = autosave.folder
    spec = load_weights(ball_model(tmp_path))[1]

    def learned_from(how: str) -> np.ndarray:
        settings = ball_settings(tmp_path, sessions=[{"folder": folder}], learn_from=how)
        (read,) = read_cases(settings, spec)
        return read.raters[0]

    assert np.array_equal(learned_from("result"), labels)
    assert np.array_equal(learned_from("locked"), np.where(labels == 1, 1, UNREVIEWED))
    assert np.array_equal(learned_from("strokes"), np.where(said == 2, 1, UNREVIEWED))
    settings = ball_settings(tmp_path, sessions=[{"folder": folder}], learn_from="strokes", steps=2)
    assert finetune(settings, tmp_path / "run").steps == 2


def test_a_file_of_strokes_is_learned_from(tmp_path: Path) -> None:
    case = write_case(tmp_path)
    said = np.zeros(SHAPE, np.uint8)
    said[3, 3, 3:9], said[10, 9, 4:12] = 1, 2
    case["reviewed"] = write_map(tmp_path / "strokes.nii.gz", said)
    settings = ball_settings(tmp_path, cases=[case], learn_from="strokes")
    (read,) = read_cases(settings, load_weights(settings.model)[1])
    there = read_image(case["reviewed"]).data[0]
    assert np.array_equal(read.raters[0], np.where(there, there - 1, UNREVIEWED))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda case, folder: {"labels": write_map(folder / "x.nii.gz", ball()[1] * 7)}, "0 to 1"),
        (
            lambda case, folder: {"labels": write_map(folder / "x.nii.gz", ball((8, 8, 8))[1])},
            "grid",
        ),
        (
            lambda case, folder: {
                "reviewed": write_map(folder / "x.nii.gz", np.zeros(SHAPE, np.uint8))
            },
            "nothing to learn from",
        ),
        (lambda case, folder: {"image": case["image"] * 2}, "channels"),
    ],
)
def test_cases_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, change, said: str
) -> None:
    case = write_case(tmp_path)
    settings = ball_settings(tmp_path, cases=[{**case, **change(case, tmp_path)}])
    with pytest.raises((ConfigError, InputError), match=said):
        finetune(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_classes_or_another_order_are_refused(tmp_path: Path) -> None:
    case = write_case(tmp_path)
    image = read_image(case["image"][0])
    classes = tuple(ClassSpec(name=name, color="#ffffff") for name in ("ball", "background"))
    correction = Correction(SHAPE, 2)
    autosave = Autosave(correction, identify(image, case["image"][0]), classes)
    correction.accept(ball()[1], name="accept")
    assert autosave.close(60)
    settings = ball_settings(tmp_path, sessions=[{"folder": autosave.folder}])
    with pytest.raises(ConfigError, match=r"ball, background .* but the model"):
        finetune(settings, tmp_path / "run")


def test_a_part_of_a_single_case_is_held_out_and_not_learned_from(tmp_path: Path) -> None:
    settings = ball_settings(tmp_path)
    spec = load_weights(settings.model)[1]
    (case,) = read_cases(settings, spec)
    parts = split([case], None)
    ours, theirs = parts.training[0].raters, parts.validation[0].raters
    assert not ((ours != UNREVIEWED) & (theirs != UNREVIEWED)).any()
    assert ((ours != UNREVIEWED) | (theirs != UNREVIEWED)).all()
    assert 0.1 < (theirs != UNREVIEWED).mean() < 0.3
    assert "a fifth" in parts.said
    cases = [case] * 5
    assert len(split(cases, None).validation) == 2
    assert len(split(cases, 0).training) == 5
    with pytest.raises(ConfigError, match="nothing to learn from"):
        split(cases, 5)


def test_a_stochastic_head_keeps_the_mean_of_a_deterministic_model(tmp_path: Path) -> None:
    network, spec = load_weights(ball_model(tmp_path, "point"))
    tuned, tuned_spec = with_stochastic_head(network, spec, rank=3)
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.inference_mode():
        before, after = network(image), tuned(image)
    assert torch.equal(before.mean, after.mean)
    assert after.factor.shape == (1, 3, 2, 8, 8, 8)
    assert tuned_spec.head.is_stochastic
    with pytest.raises(ConfigError, match="deterministic"):
        with_stochastic_head(tuned, tuned_spec, rank=3)


def test_a_deterministic_model_gains_a_distribution(tmp_path: Path) -> None:
    model = ball_model(tmp_path, "point")
    settings = ball_settings(tmp_path, model=str(model), stochastic_rank=2, what="head")
    finetune(settings, tmp_path / "run")
    start, _ = with_stochastic_head(*load_weights(model), rank=2)
    tuned = load_file(tmp_path / "run" / TUNED_NAME)
    assert {name for name, one in start.state_dict().items() if not one.equal(tuned[name])} == {
        f"head.{part}.{one}"
        for part in ("mean", "log_diagonal", "factor")
        for one in ("weight", "bias")
    }
    _, spec = load_weights(tmp_path / "run" / TUNED_NAME)
    assert spec.head.is_stochastic


# A process that may map little more memory than it has.
LIMITED = """
import resource, sys
from pathlib import Path
import torch
from napari_structseg.finetuning.events import Shrunk
from napari_structseg.finetuning.run import finetune
from napari_structseg.finetuning.settings import make_settings, read_settings

torch.set_num_threads(1)
folder = Path(sys.argv[1])
settings = read_settings(folder)
# What torch sets up on first use is not counted.
warm = settings.model_copy(update={"patch": (8, 8, 8), "samples": 2})
finetune(warm, folder / "warm")
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

def tell(event):
    if isinstance(event, Shrunk):
        print(*event.patch, event.batch, flush=True)

finetune(settings, folder / "run", tell=tell)
"""


def limited(tmp_path: Path, megabytes: int, **fields) -> subprocess.CompletedProcess[str]:
    settings = ball_settings(tmp_path, steps=1, held_out=0, **fields)
    settings.write(tmp_path)
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), str(megabytes << 20)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_a_patch_that_does_not_fit_into_memory_is_made_smaller(tmp_path: Path) -> None:
    # Its samples are 520 MB: it is refused before anything is allocated. Half of it is not; but
    # the second copy of the samples finds no room.
    finished = limited(tmp_path, 400, patch=(32, 32, 32), samples=2000, batch=1)
    assert finished.returncode == 0, finished.stderr
    patches = [tuple(map(int, line.split())) for line in finished.stdout.splitlines()]
    assert patches[:2] == [(16, 32, 32, 1), (16, 16, 32, 1)]
    report = read_report(tmp_path / "run")
    assert (*report.patch, report.batch) == patches[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_where_nothing_fits_the_message_says_so(tmp_path: Path) -> None:
    finished = limited(tmp_path, 100, patch=(16, 16, 16), samples=100_000, batch=2)
    assert finished.returncode == 1
    assert "too little memory to fine-tune" in finished.stderr
    assert finished.stdout.splitlines()[-1] == "8 8 8 1"
    assert not (tmp_path / "run" / TUNED_NAME).exists()


def test_what_was_fitted_to_other_weights_is_dropped_and_said(tmp_path: Path, capsys) -> None:
    image = read_image(write_case(tmp_path)["image"][0])
    volume = SeenSpec(name="volume", of="ball", unit="mL", seen=(1, 2), low=0.5, high=3)
    dark = SeenSpec(name="dark end", seen=(-9, -8), low=-9.5, high=-7.5)
    edge = SeenSpec(name="data at the edge", unit="%", seen=(0, 0.1), high=0.2)
    model = ball_model(
        tmp_path,
        calibration=CalibrationSpec(
            temperature=2.0,
            class_scale=(1, 1),
            score="crps",
            before={"crps": 0.2},
            after={"crps": 0.1},
            cases=5,
            samples=4,
            seed=0,
        ),
        domain=DomainSpec(statistics=(volume, dark, edge), data="scans", cases=8),
    )
    spec = load_weights(model)[1]
    settings = ball_settings(tmp_path, model=str(model), steps=1, held_out=0)
    finetune(settings, tmp_path / "run")
    tuned = load_weights(tmp_path / "run" / TUNED_NAME)[1]
    # What the image alone says is kept, and wide enough for what was corrected.
    kept = {one.name: one for one in tuned.domain.statistics}
    assert set(kept) == {"dark end", "data at the edge"}
    found = statistics_of_image(spec, image)
    assert found["data at the edge", ""] == 1
    assert kept["dark end"].seen == (-9, found["dark end", ""])
    assert (kept["dark end"].low, kept["dark end"].high) == (-9.5, found["dark end", ""])
    assert (kept["data at the edge"].low, kept["data at the edge"].high) == (None, 1)
    assert tuned.domain.cases == 9
    assert tuned.calibration is None
    assert "with structseg calibrate" in dropped_in_words(spec)
    assert main(["info", str(tmp_path / "run" / TUNED_NAME)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "dropped the calibration and the ranges of what it segments" in printed
    # There is nothing to take from a model that has neither.
    assert dropped_in_words(load_weights(ball_model(tmp_path))[1]) == ""


def test_what_the_model_was_trained_on_is_replayed_and_scored(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    said = np.zeros(SHAPE, np.uint8)
    said[3, 3, 3:9] = 1
    case = {**write_case(tmp_path), "reviewed": write_map(tmp_path / "said.nii.gz", said)}
    common = {"cases": [case], "held_out": 0, "steps": 30, "pull": 0, "learning_rate": 2e-2}
    with_replay = finetune(
        ball_settings(tmp_path, **common, replay=dataset, replay_share=0.8), tmp_path / "with"
    )
    assert with_replay.replay.before is not None
    assert with_replay.replay.after is not None
    # Of the corrections, which say nothing but background, nothing of the ball is learned.
    assert with_replay.replay.helped
    told: list[Event] = []
    without = finetune(ball_settings(tmp_path, **common), tmp_path / "without", tell=told.append)
    assert without.replay.after is None
    assert not same_tensors(tmp_path / "with" / TUNED_NAME, tmp_path / "without" / TUNED_NAME)


def test_several_raters_are_scored_by_the_energy_distance(tmp_path: Path) -> None:
    case = write_case(tmp_path)
    other = write_map(tmp_path / "other.nii.gz", np.roll(ball()[1], 2, axis=1))
    case["other_raters"] = [other]
    report = finetune(ball_settings(tmp_path, cases=[case], steps=3), tmp_path / "run")
    assert report.corrections.before.ged is not None
    assert report.corrections.after.ged is not None


def test_data_of_another_model_is_not_replayed(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", names=("background", "cube"))
    with pytest.raises(ConfigError, match="cannot be replayed"):
        finetune(ball_settings(tmp_path, replay=dataset), tmp_path / "run")


@pytest.mark.parametrize("freeze_model", [False, True])
def test_an_mrf_stays_what_it_is(tmp_path: Path, freeze_model: bool) -> None:
    """One that was trained together with the model is a part of the loss, and is not changed."""
    prior = PriorConfig(min_iterations=2, max_iterations=2, freeze_model=freeze_model)
    recipe = {"prior": prior.model_dump(mode="json")}
    model = ball_model(tmp_path, "point", prior=PriorSpec(), training=TrainingRecord(recipe=recipe))
    spec = load_weights(model)[1]
    settings = ball_settings(tmp_path, model=str(model), steps=2, held_out=0)
    assert (training_config(settings, spec).prior is None) == freeze_model
    finetune(settings, tmp_path / "run")
    changed = changed_tensors(model, tmp_path / "run" / TUNED_NAME)
    assert any(name.startswith("backbone.") for name in changed)
    assert not any(name.startswith("prior.") for name in changed)


def test_a_crf_that_was_learned_stays_what_it_is(tmp_path: Path) -> None:
    crf = CRFSpec(smooth=0.4, contrast=0.9)
    margin = MaxMarginConfig().model_dump(mode="json")
    record = TrainingRecord(recipe={"max_margin": margin})
    model = ball_model(tmp_path, "point", crf=crf, training=record)
    settings = ball_settings(tmp_path, model=str(model), steps=2, held_out=0)
    assert training_config(settings, load_weights(model)[1]).max_margin is None
    finetune(settings, tmp_path / "run")
    assert changed_tensors(model, tmp_path / "run" / TUNED_NAME)
    assert load_weights(tmp_path / "run" / TUNED_NAME)[1].crf == crf


def run_command(tmp_path: Path, *more: str) -> int:
    case = write_case(tmp_path)
    return main(
        [
            "finetune",
            "--model",
            str(ball_model(tmp_path)),
            "--case",
            str(case["image"][0]),
            str(case["labels"]),
            "--out",
            str(tmp_path / "run"),
            *("--steps", "4", "--validate-every", "2", "--samples", "4", "--device", "cpu"),
            *more,
        ]
    )


def test_a_run_ends_when_its_minutes_are_over(tmp_path: Path) -> None:
    settings = ball_settings(tmp_path, steps=1000, minutes=1e-9)
    report = finetune(settings, tmp_path / "run")
    # What was learned until then is scored and offered like that of a whole run.
    assert (report.steps, report.weights_step) == (1, 1)
    assert report.corrections.after.step == 1
    assert (tmp_path / "run" / TUNED_NAME).is_file()


def test_command_says_what_it_did(tmp_path: Path, capsys) -> None:
    assert run_command(tmp_path) == 0
    printed = capsys.readouterr().out
    assert "weights learn; validation on a fifth of the reviewed voxels" in printed
    assert "step 0: Dice" in printed
    assert "before" in printed
    assert "after" in printed
    assert run_command(tmp_path) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert main(["finetune", "--resume", "--out", str(tmp_path / "run")]) == 0


def test_command_takes_a_mask_for_each_case(tmp_path: Path, capsys) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:15] = 1
    path = write_map(tmp_path / "mask.nii.gz", mask)
    assert run_command(tmp_path, "--reviewed", str(path)) == 0
    capsys.readouterr()
    assert run_command(tmp_path, "--reviewed", str(path), str(path)) == 2
    assert "2 files for 1 cases" in capsys.readouterr().err


def test_scores_are_told(tmp_path: Path) -> None:
    told: list[Event] = []
    finetune(ball_settings(tmp_path), tmp_path / "run", tell=told.append)
    assert [one.score.step for one in told if isinstance(one, Scored)] == [0, 3, 6]
    assert not any(isinstance(one, Ended) for one in told)


def test_a_model_of_several_channels_learns(tmp_path: Path) -> None:
    model = tiny_model(
        tmp_path / "two.safetensors",
        channels=2,
        classes=load_weights(ball_model(tmp_path))[1].classes,
        patch=(8, 8, 8),
    )
    case = write_case(tmp_path)
    case["image"] = case["image"] * 2
    settings = ball_settings(tmp_path, model=str(model), cases=[case], steps=2)
    assert finetune(settings, tmp_path / "run").steps == 2
