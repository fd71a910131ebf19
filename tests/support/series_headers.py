"""Series that are headers only, for tests of choosing and joining."""

from dataclasses import replace
from pathlib import Path

from pipeline.study import Instance, Series, Study

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TIMING = {
    "T1": {"echo_time_ms": 3.0, "repetition_time_ms": 2000.0, "inversion_time_ms": 900.0},
    "FLAIR": {"echo_time_ms": 93.0, "repetition_time_ms": 9000.0, "inversion_time_ms": 2500.0},
    "T2": {"echo_time_ms": 98.0, "repetition_time_ms": 5200.0},
    "DIFF": {"echo_time_ms": 87.0, "repetition_time_ms": 6200.0, "scanning_sequence": ("EP",)},
}


def make_series(
    number: int, description: str, timing: str, *, slices: int = 30, step_mm: float = 5.0, **changes
) -> Series:
    """A series of axial images; `changes` go to every instance."""
    instance = Instance(
        path=Path("none"),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.4",
        sop_instance_uid="",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        number_of_frames=1,
        rows=256,
        columns=256,
        samples_per_pixel=1,
        photometric_interpretation="MONOCHROME2",
        has_pixels=True,
        instance_number=1,
        image_type=("ORIGINAL", "PRIMARY", "M", "ND"),
        position_mm=(0.0, 0.0, 0.0),
        orientation=AXIAL,
        pixel_spacing_mm=(0.9, 0.9),
        frame_of_reference_uid="1.2.3",
        echo_time_ms=None,
        repetition_time_ms=None,
        inversion_time_ms=None,
        b_value=None,
        temporal_position=None,
        acquisition_number=1,
        contrast_agent=None,
        scanning_sequence=("SE",),
        body_part="HEAD",
        acquired_at=f"20240101{100000 + 100 * number}",
    )
    instance = replace(instance, **TIMING[timing] | changes)
    instances = tuple(
        replace(
            instance,
            sop_instance_uid=f"1.2.{number}.{index}",
            series_instance_uid=f"1.2.{number}",
            position_mm=(0.0, 0.0, step_mm * index),
            instance_number=index + 1,
        )
        for index in range(slices)
    )
    return Series(f"1.2.{number}", number, description, "", "MR", "TEST", instances)


def study(*series: Series) -> Study:
    return Study("1.2", series)


def part(whole: Series, number: int, numbers: range | list[int], **changes) -> Series:
    """Return some images of a series as a series of their own; `changes` go to every image."""
    uid = f"1.2.{number}"
    images = tuple(replace(whole.instances[index], series_instance_uid=uid, **changes) for index in numbers)
    return replace(whole, series_instance_uid=uid, series_number=number, instances=images)
