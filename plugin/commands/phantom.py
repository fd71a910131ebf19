"""The commands `glionode phantom` and `glionode demo`: write a synthetic study, and send one through a node."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import GlionodeError
from plugin.commands.terminal import complain, refuse, refusing

if TYPE_CHECKING:
    from plugin.demo.phantom import PhantomStudy

SeedOption = Annotated[int, typer.Option(min=0, help="Equal seeds give equal studies.")]
VariantOption = Annotated[
    str, typer.Option(help="unifocal, multifocal, small, non_enhancing, resected or lesion_free.", show_default=True)
]
DEMO_SEED = 2_000_001
"""Outside the seeds on which a bundled model was trained or evaluated; not selected by its result."""


def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Folder for the study; must be empty.")],
    seed: SeedOption = DEMO_SEED,
    variant: VariantOption = "unifocal",
) -> None:
    """Write a synthetic glioma study with distractor series as DICOM, and its ground truth.

    Writes OUT/dicom/<series>/*.dcm, OUT/truth_{t1ce,flair,adc}.nii.gz (bit mask: 1 enhancing tumour, 2 ADC abnormality,
    4 FLAIR hyperintensity, on each series' own grid) and OUT/truth.json. The patient is marked as synthetic.
    """
    written = make_phantom(out, seed, variant)
    print(f"Study {written.study_instance_uid} with {len(written.series)} series in {written.dicom_folder}")


def make_phantom(out: Path, seed: int, variant: str) -> "PhantomStudy":
    """Synthesise a head and write it as a study; exit with an error message where that is not possible."""
    from models.training.synthetic.head import synthesise
    from models.training.synthetic.tumour import Variant
    from plugin.demo.phantom import write_phantom

    try:
        kind = Variant(variant)
    except ValueError as exc:
        known = ", ".join(each.value for each in Variant)
        raise refuse(f"Variant {variant!r} is unknown; choose one of {known}.") from exc
    with refusing(GlionodeError):
        return write_phantom(synthesise(seed, kind), out, seed, variant)


def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", file_okay=False, help="Folder for all files.")] = Path("demo"),
    seed: SeedOption = DEMO_SEED,
    variant: VariantOption = "unifocal",
) -> None:
    """Send a synthetic study through a node on this machine to a receiving PACS, and compare the result with the truth.

    Uses free ports on the loopback interface; nothing is left running. Prints volumes, true volumes, Dice, and the
    paths of the files and of an overlay picture. Exit status: 0 if every step succeeded, 1 otherwise.
    """
    from plugin.demo.run import FILES, run_demo

    if out.exists() and any(out.iterdir()):
        others = {path.name for path in out.iterdir()} - FILES
        if others or not (out / "phantom" / "truth.json").is_file():
            raise refuse(f"{out} holds other files; choose an empty folder.")
        from shutil import rmtree

        rmtree(out)
    complain("Making a synthetic study ...")
    study = make_phantom(out / "phantom", seed, variant)
    with refusing(GlionodeError):
        result = run_demo(study, out, complain)
    print(f"{'':<22}{'found ml':>10}{'true ml':>10}{'Dice':>8}")
    for row in result.labels:
        print(f"{row.label.title:<22}{row.found_ml:>10.1f}{row.true_ml:>10.1f}{row.dice:>8.3f}")
    print(f"SEG      {result.seg_path}\nSR       {result.sr_path}\npicture  {result.picture_path}")
    print(f"study    {study.dicom_folder}")
    print("A demonstration model on a synthetic head like those it was trained on; this says nothing about patients.")
