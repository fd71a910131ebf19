"""The same case in a plain pipeline of SimpleITK, MONAI and highdicom, as their tutorials write it.

    python -m benchmarks.plain_pipeline SERIES OURS OUT [--device cpu] [--spacing 1] [--roi 128] [--overlap 0.25]

SERIES has a folder of images for each of T1CE, FLAIR and ADC, so that nothing is searched for. SimpleITK registers
FLAIR and ADC to T1CE (Mattes, 50 bins, 10 % of the voxels at random with a seed, regular-step gradient descent,
shrinking by 4, 2 and 1; the settings of its example ImageRegistrationMethod4 and of its tutorial on registration) and
resamples to 1 mm. MONAI crops to the foreground, normalises, and runs the usual SegResNet (16 filters, blocks down 1,
2, 2, 4) in float32 by sliding window. highdicom writes one SEG on T1CE. What ours makes beyond that (choice of series,
evidence for the registration, SEG on two more grids, two SR, pictures, checks) is left out. The weights are random,
which takes as long as others; so the SEG has the masks of `OURS` (a seg-t1ce.dcm), the restored ones being noise.
Prints JSON: the seconds of each step and their total.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import SimpleITK as sitk
import torch
from monai.inferers.utils import sliding_window_inference
from monai.networks.nets.segresnet import SegResNet
from monai.transforms import Compose, CropForegroundd, EnsureTyped, NormalizeIntensityd
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.sr.codedict import codes

ROLES = ("T1CE", "FLAIR", "ADC")
LABELS = ("Enhancing tumour", "ADC abnormality", "FLAIR hyperintensity")

_STEPS: dict[str, float] = {}


@contextmanager
def step(name: str) -> Iterator[None]:
    """Record how many seconds the block, a step of the pipeline, takes."""
    started = time.perf_counter()
    yield
    _STEPS[name] = time.perf_counter() - started


def main() -> None:
    """Process one study and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("series", type=Path)
    parser.add_argument("ours", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--spacing", type=float, default=1.0, help="of the network's grid, mm")
    parser.add_argument("--roi", type=int, default=128)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    masks_of_ours = read_masks(options.ours, sorted_files(options.series / "T1CE"))
    network = plain_network().to(device)
    started = time.perf_counter()
    with step("read"):
        images = {role: read_series(options.series / role) for role in ROLES}
    with step("align"):
        moves = {role: register(images["T1CE"], images[role]) for role in ROLES[1:]}
    with step("resample"):
        grid = grid_over(images["T1CE"], options.spacing)
        resampled = [sitk.Resample(images[role], grid, moves.get(role, sitk.Transform())) for role in ROLES]
    with step("normalise"):
        case = transforms()({"image": np.stack([sitk.GetArrayFromImage(each) for each in resampled])})
    with step("segment"):
        probabilities = segment(case["image"], network, device, options.roi, options.overlap)
    with step("restore"):
        restore(probabilities, case, grid, images["T1CE"])
    with step("encode"):
        encode(masks_of_ours, sorted_files(options.series / "T1CE"), options.out)
    took = json.dumps(_STEPS | {"total": time.perf_counter() - started})
    print(took)
    if options.json:
        options.json.write_text(took + "\n")


def plain_network() -> torch.nn.Module:
    """Return MONAI's usual SegResNet of 16 filters, with random weights."""
    torch.manual_seed(0)
    network: torch.nn.Module = SegResNet(
        spatial_dims=3, init_filters=16, in_channels=3, out_channels=3, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1)
    )
    return network.eval()


def sorted_files(folder: Path) -> list[str]:
    """Return the files of the one series in a folder, in the order of their slices."""
    return list(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


def read_series(folder: Path) -> sitk.Image:
    """Read the one series in a folder."""
    return sitk.ReadImage(sorted_files(folder), sitk.sitkFloat32)


def register(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    """Return the rigid transform from the fixed to the moving image."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.1, seed=1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(learningRate=1.0, minStep=0.001, numberOfIterations=200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    method.SetInitialTransform(start, inPlace=False)
    return method.Execute(fixed, moving)


def grid_over(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    """Return an empty image over the extent of `image` with isotropic voxels."""
    extent = np.array(image.GetSize()) * np.array(image.GetSpacing())
    grid = sitk.Image([int(size) for size in np.ceil(extent / spacing_mm)], sitk.sitkFloat32)
    grid.SetOrigin(image.GetOrigin())
    grid.SetSpacing([spacing_mm] * 3)
    grid.SetDirection(image.GetDirection())
    return grid


def transforms() -> Compose:
    """Return the transforms of an image (channels, slices, rows, columns): crop to the head, normalise."""
    return Compose(
        [
            EnsureTyped("image"),
            CropForegroundd("image", source_key="image", select_fn=lambda image: image > image.mean(), k_divisible=8),
            NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        ]
    )


def segment(
    image: torch.Tensor, network: torch.nn.Module, device: torch.device, roi: int, overlap: float
) -> torch.Tensor:
    """Return the probabilities of the labels, (labels, slices, rows, columns), on the CPU."""
    with torch.inference_mode():
        logits = sliding_window_inference(
            image[None].as_tensor().to(device),  # type: ignore[attr-defined]
            (roi, roi, roi), 1, network, overlap=overlap, mode="gaussian",
        )  # fmt: skip
        assert isinstance(logits, torch.Tensor)
        return torch.sigmoid(logits[0]).cpu()


def restore(probabilities: torch.Tensor, case: Any, grid: sitk.Image, t1ce: sitk.Image) -> NDArray[np.bool_]:
    """Return the masks on T1CE, (labels, slices, rows, columns)."""
    first = [int(value) for value in case["foreground_start_coord"]]
    masks = []
    for each in probabilities:
        image = sitk.GetImageFromArray(each.numpy())
        image.SetSpacing(grid.GetSpacing())
        image.SetDirection(grid.GetDirection())
        image.SetOrigin(grid.TransformIndexToPhysicalPoint(first[::-1]))
        masks.append(sitk.GetArrayFromImage(sitk.Resample(image, t1ce)) > 0.5)
    return np.stack(masks)


def read_masks(path: Path, files: list[str]) -> NDArray[np.uint8]:
    """Return the masks of a SEG, (slices, rows, columns, labels), on the images of its series."""
    uids = [str(dcmread(each, specific_tags=["SOPInstanceUID"]).SOPInstanceUID) for each in files]
    seg = hd.seg.segread(path)
    return np.asarray(seg.get_pixels_by_source_instance(uids, ignore_spatial_locations=True), np.uint8)


def encode(masks: NDArray[np.uint8], files: list[str], out: Path) -> None:
    """Write masks (slices, rows, columns, labels) as a SEG that refers to the images."""
    segments = [
        hd.seg.SegmentDescription(
            number,
            name,
            codes.SCT.MorphologicallyAbnormalStructure,
            codes.SCT.Lesion,
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            hd.AlgorithmIdentificationSequence("SegResNet", codes.DCM.ArtificialIntelligence, "1"),
        )
        for number, name in enumerate(LABELS, 1)
    ]
    seg = hd.seg.Segmentation(
        source_images=[dcmread(file) for file in files],
        pixel_array=masks,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=100,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="benchmark",
        manufacturer_model_name="plain pipeline",
        software_versions="1",
        device_serial_number="1",
    )
    seg.save_as(out)


if __name__ == "__main__":
    main()
