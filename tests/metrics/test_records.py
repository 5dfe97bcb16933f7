import math
import re

import pytest
from pydantic import ValidationError

from duodiff_pipeline.metrics.records import MetricRecord, few_images_warnings, require_comparable

FIELDS = dict(
    name="fid",
    value=8.5,
    interval_low=7.5,
    interval_high=9.5,
    interval_method="Student t, 95%, 5 seed blocks",
    n_generated=599,
    n_reference=599,
    extractor="classifier_1x8x8_64",
    extractor_sha256="a" * 64,
    reference_sha256="b" * 64,
    denoiser="duodiff",
    edges=(400.0,),
    solver="ddim",
    solver_conventions="trailing timesteps, predicted images not clipped",
    steps=20,
    nfe=20,
    k=12,
    gmacs=0.25,
    micro_batch_images=64,
    weights="ema",
    seeds=(1, 2, 3, 4, 5),
)


def record(**changes) -> MetricRecord:
    return MetricRecord(**(FIELDS | changes))


def test_fields_are_those_of_the_design():
    assert set(MetricRecord.model_fields) == set(FIELDS) | {
        "guidance",
        "precision",
        "reference",
        "warnings",
        "expected",
    }
    assert record().warnings == ()
    assert record(k=None, edges=()).k is None
    assert record().expected is None
    assert record().reference == "held_out"
    assert record(reference="published", n_reference=None).n_reference is None
    assert record(extractor="pixels", extractor_sha256=None, expected=0.5).extractor_sha256 is None


def test_json_and_back():
    before = record(warnings=("mind this",))
    assert MetricRecord.model_validate_json(before.model_dump_json()) == before


def test_frozen():
    with pytest.raises(ValidationError, match="Instance is frozen"):
        record().value = 1.0


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_every_field_is_required(field):
    with pytest.raises(ValidationError, match=f"(?m)^{field}\n.*Field required"):
        MetricRecord(**{name: value for name, value in FIELDS.items() if name != field})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "Extra inputs are not permitted"),
        ({"value": math.nan}, "Input should be a finite number"),
        ({"n_generated": 0}, "Input should be greater than or equal to 1"),
        ({"extractor_sha256": "abc"}, "String should match pattern"),
        ({"weights": "best"}, "Input should be 'raw' or 'ema'"),
        ({"value": 9.75}, "the interval 7.5..9.5 does not hold 9.75"),
        ({"k": 21}, "switch k 21 is beyond the 20 evaluations"),
    ],
)
def test_records_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        record(**changes)


def test_records_of_other_denoisers_schedules_and_solvers_compare():
    require_comparable(record(), record(denoiser="deep", k=None, edges=(), solver="ddpm", steps=50, nfe=50, value=9.0))


@pytest.mark.parametrize(
    ("field", "other", "said"),
    [
        ("name", "kid", "name is fid and kid"),
        ("n_generated", 300, "n_generated is 599 and 300"),
        ("n_reference", 1198, "n_reference is 599 and 1198"),
        ("extractor_sha256", "c" * 64, f"extractor_sha256 is {'a' * 64} and {'c' * 64}"),
        ("reference_sha256", "c" * 64, f"reference_sha256 is {'b' * 64} and {'c' * 64}"),
    ],
)
def test_records_of_another_measure_do_not_compare(field, other, said):
    with pytest.raises(ValueError, match=f"^records of duodiff and deep do not compare: {said}$"):
        require_comparable(record(), record(denoiser="deep", **{field: other}))


def test_few_images_leave_a_warning():
    assert few_images_warnings(n_generated=64, n_reference=64, n_features=64) == ()
    assert few_images_warnings(n_generated=599, n_reference=5000, n_features=2048) == (
        "599 generated images for 2048 features: their covariance is singular and the distance far too large",
    )
    assert len(few_images_warnings(n_generated=599, n_reference=599, n_features=2048)) == 2
