from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_structseg.controls import CLASS_SCALE_MAX, TEMPERATURE_MAX, Controls, Nudge
from napari_structseg.distributions import Noise
from napari_structseg.errors import ConfigError
from napari_structseg.named_controls import make_controls

NAMES = ("background", "CSF", "grey matter")

scales = st.floats(-CLASS_SCALE_MAX, CLASS_SCALE_MAX)
controls = st.builds(
    Controls,
    seed=st.integers(0, 2**31 - 1),
    sample=st.integers(0, 2**31 - 1),
    temperature=st.floats(0, TEMPERATURE_MAX),
    class_scale=st.one_of(st.just(()), st.tuples(*[scales] * len(NAMES))),
)


@given(controls)
def test_a_saved_recipe_gives_the_same_controls(state: Controls) -> None:
    assert Controls.model_validate_json(state.model_dump_json()) == state


@given(controls)
def test_weights_are_temperature_times_class_scale(state: Controls) -> None:
    weights = state.weights(len(NAMES))
    class_scale = state.class_scale or (1.0,) * len(NAMES)
    assert weights == tuple(state.temperature * scale for scale in class_scale)


def test_sample_0_is_the_mean_and_others_have_noise() -> None:
    assert Controls().noise is None
    assert Controls(seed=3, sample=5).noise == Noise(3, 5)
    assert Controls(seed=3, sample=5, temperature=2).noise == Controls(seed=3, sample=5).noise


def test_controls_are_frozen_and_compare_by_value() -> None:
    state = Controls(class_scale=(1, 2, 3))
    assert hash(state) == hash(Controls(class_scale=(1.0, 2.0, 3.0)))
    with pytest.raises(ValidationError, match="frozen"):
        state.seed = 1


def test_every_control_has_a_title_and_a_description() -> None:
    for field in Controls.model_fields.values():
        assert field.title
        assert field.description
        assert field.description.endswith(".")


def test_class_scales_are_given_by_name_or_in_order() -> None:
    assert make_controls(NAMES).class_scale == (1.0, 1.0, 1.0)
    assert make_controls(NAMES, class_scale={"CSF": 2}).class_scale == (1.0, 2.0, 1.0)
    assert make_controls(NAMES, class_scale=[0, 1, -3]).class_scale == (0.0, 1.0, -3.0)
    state = make_controls(NAMES, seed=3, temperature="0.5")
    assert (state.seed, state.sample, state.temperature) == (3, 0, 0.5)


def test_nudges_are_given_by_name_or_label() -> None:
    expected = (Nudge(first=1, second=2, amount=-0.5), Nudge(first=0, second=0, amount=1))
    by_name = {("csf", "Grey Matter"): -0.5, ("background", "background"): 1}
    assert make_controls(NAMES, nudges=by_name).nudges == expected
    assert make_controls(NAMES, nudges=expected).nudges == expected
    assert make_controls(NAMES).nudges == ()


def test_names_that_differ_in_case_alone() -> None:
    names = ("left", "Left")
    assert make_controls(names, class_scale={"Left": 2}).class_scale == (1, 2)
    assert make_controls(names, class_scale={"left": 2}).class_scale == (2, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nudges": {("CSF", "bone"): 1}}, r"Unknown class 'bone'.*background, CSF, grey matter"),
        ({"nudges": {"CSF": 1}}, r"between two classes, but it is given for 'CSF'"),
        ({"nudges": {("CSF",): 1}}, r"between two classes"),
        ({"nudges": {("CSF", "background"): 9}}, r"nudges of CSF and background: .*to 5.*got 9"),
        ({"nudges": {("CSF", "CSF"): "more"}}, r"nudges of CSF and CSF: .*number.*'more'"),
        (
            {"nudges": {("CSF", "background"): 1, ("Background", "csf"): 1}},
            r"'background' and 'CSF' is nudged twice",
        ),
        ({"nudges": [(0, 1)]}, r"nudges\.0: "),
        ({"nudges": [{"first": 0, "second": 1, "amount": 9}]}, r"nudges\.0\.amount: "),
        ({"iterations": 51}, r"iterations: .*less than or equal to 50"),
        ({"mrf_strength": -1}, r"mrf_strength: "),
        ({"damping": 0}, r"damping: .*0\.05"),
        ({"update": "sideways"}, r"update: .*'parallel', 'proximal' or 'coloured'"),
        ({"class_scale": {"bone": 1}}, r"Unknown class 'bone'.*background, CSF, grey matter"),
        ({"class_scale": (1, 1)}, r"2 class scales, but the model has 3 classes"),
        ({"class_scale": {"CSF": 3.5}}, r"class_scale of CSF: .*less than or equal to 3.*got 3.5"),
        ({"class_scale": {"CSF": "wide"}}, r"class_scale of CSF: .*valid number.*'wide'"),
        ({"class_scale": {"CSF": float("nan")}}, r"class_scale of CSF: .*finite number"),
        ({"temperature": -0.1}, r"temperature: .*greater than or equal to 0.*got -0.1"),
        ({"temperature": float("inf")}, r"temperature: "),
        ({"seed": -1}, r"seed: .*got -1"),
        ({"seed": 2**31}, r"seed: .*less than 2147483648"),
        ({"sample": 1.5}, r"sample: .*valid integer"),
        ({"seeds": 1}, r"seeds: Extra inputs are not permitted"),
        ({"seed": -1, "sample": -1}, r"seed: .*; sample: "),
    ],
)
def test_what_is_wrong_is_said_with_its_name_and_value(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_controls(NAMES, **values)


def test_class_scales_of_another_model_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"2 class scales.*3 classes"):
        Controls(class_scale=(1, 1)).weights(3)


def test_a_class_scaled_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="given twice, in different spellings: CSF, csf"):
        make_controls(["Background", "CSF"], class_scale={"CSF": 2, "csf": 3})
