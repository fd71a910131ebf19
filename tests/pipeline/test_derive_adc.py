"""ADC computed from diffusion-weighted images: known diffusion comes back, air and failed fits are missing."""

import numpy as np
import pytest

from models.labels import Role
from pipeline.derive_adc import fit_adc
from pipeline.errors import SlicesMissing, UnitsUnknown
from pipeline.read import read_volume
from pipeline.scan import scan


def signal(adc: float, b_value: float, at_rest: float = 4000.0) -> float:
    """Mono-exponential decay; ADC in 10^-6 mm2/s."""
    return at_rest * float(np.exp(-b_value * adc * 1e-6))


def write_diffusion(make, box, *b_values: float, adc: float = 800.0) -> None:
    for number, b_value in enumerate(b_values):
        pixels = np.full(box.shape, round(signal(adc, b_value)))
        make.classic(box, "dwi", pixels=pixels, first_file=1 + 100 * number, DiffusionBValue=b_value)


def read(make):
    return read_volume(scan([make.folder]).studies[0].series[0], Role.ADC)


@pytest.mark.parametrize(
    "b_values", [(0.0, 1000.0), (0.0, 1000.0, 1000.0, 1000.0), (0.0, 800.0, 1200.0), (50.0, 900.0)]
)
def test_known_diffusion_comes_back(make, box, b_values):
    write_diffusion(make, box, *b_values)
    volume = read(make)
    # Stored whole numbers: an error of 0.5 in about 1800 of signal is 0.3 x 10^-6 mm2/s over b = 1000.
    np.testing.assert_allclose(volume.pixels, 800, atol=1)
    np.testing.assert_allclose(volume.geometry.affine, box.affine, atol=1e-9)
    assert "computed here" in volume.notes[0]
    assert len(volume.frames) == box.shape[0]


@pytest.mark.parametrize(("maker", "values"), [("TOSHIBA", {0.0, 1000.0}), ("OTHER", {None, 1000.0})])
def test_a_maker_that_leaves_b_0_out(make, box, maker, values):
    for number, b_value in enumerate((0.0, 1000.0)):
        header = {"DiffusionBValue": b_value} if b_value else {}
        pixels = np.full(box.shape, round(signal(800.0, b_value)))
        make.classic(box, "dwi", pixels=pixels, first_file=1 + 100 * number, Manufacturer=maker, EchoTime=80, **header)
    (study,) = scan([make.folder]).studies
    assert {one.b_value for one in study.series[0].instances} == values
    if 0.0 in values:
        np.testing.assert_allclose(read(make).pixels, 800, atol=1)


def philips(make, box, slopes: tuple[tuple[float, float | None], ...]) -> None:
    """Write b = 0 and b = 1000 as Philips does: the same signals under other rescale slopes and scale slopes."""
    for number, (b_value, (rescale, scale)) in enumerate(zip((0.0, 1000.0), slopes, strict=True)):
        stored = np.full(box.shape, round(signal(800.0, b_value) * (scale or 1.0)))

        def change(dataset, _, scale=scale) -> None:
            if scale is not None:
                dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", scale)

        header = {"DiffusionBValue": b_value, "RescaleSlope": rescale, "RescaleIntercept": 0}
        make.classic(
            box, "dwi", pixels=stored, first_file=1 + 100 * number, change=change, Manufacturer="Philips", **header
        )


def test_images_that_philips_scaled_differently_are_compared_by_its_scale_slope(make, box):
    philips(make, box, ((2.0, 0.5), (0.7, 4.0)))
    np.testing.assert_allclose(read(make).pixels, 800, atol=1)


@pytest.mark.parametrize("slopes", [((2.0, None), (0.7, None)), ((2.0, None), (2.0, 4.0))])
def test_scales_that_cannot_be_compared_are_refused(make, box, slopes):
    philips(make, box, slopes)
    with pytest.raises(UnitsUnknown, match="scaled differently"):
        read(make)


def test_one_scale_needs_no_scale_slope(make, box):
    philips(make, box, ((2.0, None), (2.0, None)))
    np.testing.assert_allclose(read(make).pixels, 800, atol=1)


def test_other_weightings_take_no_part(make, box):
    write_diffusion(make, box, 0.0, 1000.0)
    make.classic(box, "dwi", pixels=np.full(box.shape, 3999), first_file=900, DiffusionBValue=3000.0)
    np.testing.assert_allclose(read(make).pixels, 800, atol=1)


def test_the_frames_are_the_weighted_images(make, box):
    write_diffusion(make, box, 0.0, 1000.0)
    weighted = {one.sop_instance_uid for one in scan([make.folder]).studies[0].series[0].instances if one.b_value}
    assert {frame.sop_instance_uid for frame in read(make).frames} == weighted


def test_a_slice_without_one_weighting_is_refused(make, box):
    write_diffusion(make, box, 0.0, 1000.0)
    (make.folder / "dwi_0103.dcm").unlink()
    with pytest.raises(SlicesMissing, match="no ADC can be computed"):
        read(make)


def test_air_and_impossible_fits_are_missing():
    signals = np.full((2, 10, 10), 1000, np.float32)
    signals[1] *= np.exp(-0.8)
    signals[:, 0, 0] = 30, 20  # air: below a tenth of the tissue
    signals[:, 0, 1] = 1000, 1100  # rises with b
    signals[:, 0, 2] = 1000, 0  # no signal at all
    adc = fit_adc(signals, np.array([0.0, 1000.0]), np.array([0, 0]))
    assert np.isnan(adc[0, 0, :3]).all()
    np.testing.assert_allclose(adc[0, 1:], 800, atol=0.1)


def test_every_direction_counts_alike():
    # Three directions with their own diffusion: the fit over all of them gives the mean.
    signals = np.array([signal(0, 0), signal(600, 1000), signal(800, 1000), signal(1300, 1000)], np.float32)
    adc = fit_adc(signals.reshape(4, 1, 1), np.array([0.0, 1000, 1000, 1000]), np.zeros(4, np.int64))
    assert adc[0, 0, 0] == pytest.approx(900, abs=0.1)
