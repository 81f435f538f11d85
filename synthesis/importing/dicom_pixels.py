"""A DICOM file → pictures as a viewer shows them, and its technical tags; nothing else of it is ever read.

Grey values go through the modality LUT and the window (PS3.3 C.11.1 and C.11.2); MONOCHROME1 is inverted.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from residency.platform.errors import DataError
from residency.platform.media_store import check_pixels
from residency.synthesis.benchmarks.published_files import UnusableRow

# of the technical tags only numbers and coded words go into metadata
TECHNICAL = (
    "Modality", "BodyPartExamined", "ViewPosition", "Laterality", "ImageLaterality", "PatientPosition", "Rows",
    "Columns", "NumberOfFrames", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "KVP",
    "MagneticFieldStrength", "EchoTime", "RepetitionTime", "PhotometricInterpretation",
)  # fmt: skip
PIXELS = (
    "SamplesPerPixel", "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "VOILUTSequence",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData",
)  # fmt: skip
FOR_SPLITTING = ("PatientID", "StudyInstanceUID")  # leave this module only towards a salted hash
READ = (*TECHNICAL, *PIXELS, *FOR_SPLITTING, "BurnedInAnnotation")
CODE = re.compile(r"[A-Z0-9_ ]{1,16}")  # what a coded word of DICOM (CS) looks like

# pydicom reports broken files by these, depending on where the damage lies
BROKEN = (InvalidDicomError, OSError, ValueError, TypeError, KeyError, AttributeError, IndexError, EOFError,
          NotImplementedError, RuntimeError, struct.error)  # fmt: skip

Grey = NDArray[np.float64]


def read_dicom(path: Path) -> Dataset:
    """The tags of ``READ`` of a file; raises UnusableRow where it is none, has no pixels, or may show a name."""
    try:
        dataset = pydicom.dcmread(path, specific_tags=list(READ))
        has_pixels = "PixelData" in dataset
        burned = str(dataset.get("BurnedInAnnotation", "")).strip().upper()
        syntax = UID(dataset.file_meta.TransferSyntaxUID) if has_pixels else None
    except BROKEN as error:
        raise UnusableRow("its DICOM file cannot be read", f"{type(error).__name__}: {error}"[:160]) from error
    if syntax is None:
        raise UnusableRow("its DICOM file has no pixel data")
    if burned == "YES":
        raise UnusableRow("a name may be burned into its pixels (BurnedInAnnotation is YES)")
    if syntax.is_compressed and not can_decode(syntax):
        raise UnusableRow(
            "its pixels are compressed in a way that needs a plugin", f"{syntax.name}: decompress it first"
        )
    return dataset


def can_decode(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False  # a video, or a private syntax


def technical_tags(dataset: Dataset) -> dict[str, Any]:
    """Numbers and coded words of the allow-list; a text in such a tag that is no code is left out."""
    found: dict[str, Any] = {}
    for name in TECHNICAL:
        value = dataset.get(name)
        values = [value] if isinstance(value, (str, int, float)) or value is None else list(value)
        plain = [plain_value(one) for one in values]
        if plain and None not in plain:
            found[name] = plain[0] if len(plain) == 1 else plain
    return found


def plain_value(value: Any) -> str | int | float | None:
    """A number or a coded word, None for anything else."""
    if isinstance(value, str) and not isinstance(value, (int, float)):
        return value.strip() if CODE.fullmatch(value.strip()) else None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    return None


def frames_of(dataset: Dataset, every: int | None) -> list[int]:
    """Which frames are shown: each ``every``-th from the first on, or the middle one; raises UnusableRow."""
    try:
        count = int(dataset.get("NumberOfFrames") or 1)
    except BROKEN as error:
        raise UnusableRow("its DICOM file cannot be read", f"NumberOfFrames: {error}"[:160]) from error
    return [count // 2] if every is None else list(range(0, count, every))


def picture_of(dataset: Dataset, frame: int, window: tuple[float, float] | None) -> Image.Image:
    """One frame as RGB or 8-bit grey; ``window`` is centre and width in units after the modality LUT."""
    try:
        check_pixels((int(dataset.Columns), int(dataset.Rows)), "a frame")
        values = pixel_array(dataset, index=frame)
        photometric = str(dataset.PhotometricInterpretation)
        if photometric == "PALETTE COLOR":
            return Image.fromarray(eight_bits(apply_color_lut(values, dataset), 16))
        if values.ndim == 3:
            return Image.fromarray(eight_bits(values, int(dataset.BitsStored)))
        grey = shown_grey(values, dataset, window)
        if photometric == "MONOCHROME1":
            grey = 1 - grey
        return Image.fromarray((grey * 255).round().astype(np.uint8))
    except DataError as error:
        raise UnusableRow("its image cannot be used", error.seen) from error
    except BROKEN as error:
        raise UnusableRow("its pixels cannot be decoded", f"{type(error).__name__}: {error}"[:160]) from error


def eight_bits(values: NDArray[Any], stored: int) -> NDArray[np.uint8]:
    return values if values.dtype == np.uint8 else (values.astype(np.uint32) >> max(stored - 8, 0)).astype(np.uint8)


def shown_grey(values: NDArray[Any], dataset: Dataset, window: tuple[float, float] | None) -> Grey:
    """Stored values → 0–1: the window asked for, else the file's VOI LUT or first window, else darkest to brightest."""
    grey = np.asarray(apply_modality_lut(values, dataset), dtype=np.float64)
    if window is not None:
        return windowed(grey, *window, "LINEAR")
    if dataset.get("VOILUTSequence"):
        entries, _, bits = dataset.VOILUTSequence[0].LUTDescriptor
        looked_up = apply_voi(np.asarray(apply_modality_lut(values, dataset)), dataset)
        return np.clip(np.asarray(looked_up, dtype=np.float64) / (2 ** int(bits) - 1), 0, 1)
    centre, width = first_number(dataset.get("WindowCenter")), first_number(dataset.get("WindowWidth"))
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if centre is not None and width is not None and width >= (1 if function == "LINEAR" else 1e-9):
        return windowed(grey, centre, width, function)
    padding = dataset.get("PixelPaddingValue")
    inside = grey[values != padding] if padding is not None and np.any(values != padding) else grey
    low, high = float(inside.min()), float(inside.max())
    return np.clip((grey - low) / (high - low), 0, 1) if high > low else np.zeros_like(grey)


def windowed(grey: Grey, centre: float, width: float, function: str) -> Grey:
    """The three window functions of PS3.3 C.11.2.1, to 0–1."""
    match function:
        case "SIGMOID":
            return 1 / (1 + np.exp(np.clip(-4 * (grey - centre) / width, -700, 700)))
        case "LINEAR_EXACT":
            return np.clip((grey - centre) / width + 0.5, 0, 1)
        case _:
            if width <= 1:
                return (grey > centre - 0.5).astype(np.float64)
            return np.clip((grey - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def first_number(value: Any) -> float | None:
    """The first of one or several windows."""
    if value is None or value == "":
        return None
    several: Sequence[Any] = value if isinstance(value, (list, tuple, MultiValue)) else [value]
    return float(several[0]) if len(several) else None


def identity(dataset: Dataset) -> Mapping[str, str]:
    """Patient and study as the file names them, to be hashed at once; empty ones are left out."""
    return {name: text for name in FOR_SPLITTING if (text := str(dataset.get(name) or "").strip())}
