"""DICOM: the pixels that a viewer shows, and not a word of what identifies."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from pydicom.uid import UID, ExplicitVRLittleEndian

from residency.platform.dataset_folder import Dataset
from residency.synthesis.benchmarks.published_files import UnusableRow
from residency.synthesis.importing.dicom_pixels import frames_of, picture_of, read_dicom, technical_tags

NAME, NUMBER = "Doe^Jane", "MRN-778899"


def write(folder: Path, name: str, values: np.ndarray, **tags: Any) -> Path:
    """A small CT file with a patient in every tag that might name one."""
    dataset = FileDataset(name, {}, preamble=b"\0" * 128)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    frames = values.shape[0] if values.ndim == 3 else 1
    known = {
        "PatientName": NAME, "PatientID": NUMBER, "PatientBirthDate": "19500102", "InstitutionName": "Doe Hospital",
        "ReferringPhysicianName": NAME, "StudyDescription": f"for {NAME}", "StudyInstanceUID": "1.2.3.4",
        "AccessionNumber": "A778899", "Modality": "CT", "BodyPartExamined": "CHEST", "Rows": values.shape[-2],
        "Columns": values.shape[-1], "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1, "NumberOfFrames": frames,
        "KVP": "120",
    }  # fmt: skip
    for tag, value in (known | tags).items():
        if value is not None:
            setattr(dataset, tag, value)
    dataset.PixelData = values.astype(np.int16).tobytes()
    path = folder / f"{name}.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


RAMP = np.arange(-1000, 3000, 40).reshape(10, 10)
CT = {"RescaleSlope": "1", "RescaleIntercept": "0"}


def shown(path: Path, window: tuple[float, float] | None = None) -> np.ndarray:
    return np.asarray(picture_of(read_dicom(path), 0, window).convert("RGB"))[..., 0]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_agree_with_pydicom(function: str, tmp_path: Path) -> None:
    tags = {"WindowCenter": "40", "WindowWidth": "400", "VOILUTFunction": function, "RescaleIntercept": "-24"}
    path = write(tmp_path, "a", RAMP, **CT | tags)
    whole = pydicom.dcmread(path)
    wanted = apply_windowing(apply_modality_lut(whole.pixel_array, whole), whole)
    low, high = -(2**15) - 24, 2**15 - 1 - 24
    assert np.abs(shown(path) - 255 * (wanted - low) / (high - low)).max() <= 0.51


def test_a_given_window_goes_before_the_files_own(tmp_path: Path) -> None:
    path = write(tmp_path, "a", RAMP, **CT | {"WindowCenter": ["40", "300"], "WindowWidth": ["400", "1500"]})
    seen = shown(path, (1000, 2))
    assert set(np.unique(seen)) <= {0, 255}
    assert seen[RAMP < 999].max() == 0
    assert seen[RAMP > 1001].min() == 255
    assert not np.array_equal(shown(path), seen)


def test_without_a_window_darkest_to_brightest_and_padding_does_not_count(tmp_path: Path) -> None:
    values = RAMP.copy()
    values[0, 0] = -32768
    seen = shown(write(tmp_path, "a", values, PixelPaddingValue=-32768))
    assert (seen[0, 0], seen[0, 1], seen[-1, -1]) == (0, 0, 255)
    dark = shown(write(tmp_path, "b", values, PixelPaddingValue=-32768, PhotometricInterpretation="MONOCHROME1"))
    assert np.abs(255.0 - dark - seen).max() <= 1


def everything_written(folder: Path) -> str:
    """All bytes of a dataset folder but of its pictures, and all text chunks of those."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "".join(path.read_bytes().decode("latin-1") for path in files)


def test_what_identifies_is_never_written(tmp_path: Path, importing: Any) -> None:
    for number in range(3):
        write(tmp_path / "source/Doe^Jane", f"Doe-{number}", RAMP + number, **CT)
    _, dataset = importing("dicom", tmp_path / "source", salt="s1")
    folder = dataset.media.root.parent
    written = everything_written(folder)
    for word in ("Doe", "Jane", "778899", "19500102", "Hospital", "1.2.3"):
        assert word not in written, word
    metadata = dataset.items[0].metadata
    assert metadata["dicom"] == {
        "Modality": "CT", "BodyPartExamined": "CHEST", "Rows": 10, "Columns": 10, "NumberOfFrames": 1, "KVP": 120.0,
        "PhotometricInterpretation": "MONOCHROME2",
    }  # fmt: skip
    assert len({item.patient_id for item in dataset.items}) == 1


def test_a_name_in_a_coded_tag_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, "a", RAMP, BodyPartExamined="Jane's chest")
    assert "BodyPartExamined" not in technical_tags(read_dicom(path))


def test_the_salt_makes_the_hash(tmp_path: Path, importing: Any) -> None:
    write(tmp_path / "source", "a", RAMP)

    def patient(**options: Any) -> str | None:
        _, dataset = importing("dicom", tmp_path / "source", **options)
        return dataset.items[0].patient_id

    assert patient(salt="s1") == patient(salt="s1") != patient(salt="s2")
    assert patient() != patient()
    assert len(patient(salt="s1") or "") == 16


def frames(dataset: Dataset) -> list[str]:
    return [item.metadata["row"] for item in dataset.items]


def test_frames_of_one_file_stay_together(tmp_path: Path, importing: Any) -> None:
    for number in range(8):
        values = np.random.default_rng(number).integers(0, 1000, (5, 10, 10))
        tags = {"StudyInstanceUID": None, "PatientID": ""} if number % 2 else {"PatientID": f"p{number}"}
        write(tmp_path / "source", f"{number}", values, **tags)
    _, dataset = importing("dicom", tmp_path / "source")
    assert frames(dataset) == [f"{number}:2" for number in range(1, 9)]
    _, dataset = importing("dicom", tmp_path / "source", split="train=0.5,held_out=0.5", every=2, salt="s")
    assert len(dataset.items) == 8 * 3
    splits = {row.split(":")[0]: item.split for row, item in zip(frames(dataset), dataset.items, strict=True)}
    assert all(splits[item.metadata["row"].split(":")[0]] == item.split for item in dataset.items)
    assert len(set(splits.values())) == 2


def test_files_that_cannot_be_shown_are_refused_with_the_reason(tmp_path: Path, importing: Any) -> None:
    source = tmp_path / "source"
    write(source, "good", RAMP)
    write(source, "burned", RAMP, BurnedInAnnotation="YES")
    write(source, "odd", RAMP, Modality="OT")
    write(source, "huge", RAMP, Rows=60000, Columns=60000)
    for name in ("MR_small_jpeg_ls_lossless.dcm", "reportsi.dcm"):
        known = get_testdata_file(name, download=False)
        assert isinstance(known, str)
        (source / name).write_bytes(Path(known).read_bytes())
    (source / "broken.dcm").write_bytes((source / "good.dcm").read_bytes()[:300])
    (source / "notes.txt").write_text("no DICOM")
    outcome, _ = importing("dicom", source)
    assert (outcome.rows, outcome.taken) == (7, 1)
    assert outcome.rejects is not None
    reasons = [json.loads(line)["reason"] for line in outcome.rejects.read_text().splitlines()]
    for words in ("a name may be burned", "Modality has no question", "its image cannot be used",
                  "compressed in a way that needs a plugin", "no pixel data"):  # fmt: skip
        assert any(words in reason for reason in reasons), words


def test_colour_palette_and_compressed_files_that_pydicom_can_read() -> None:
    for name in ("examples_palette.dcm", "examples_ybr_color.dcm", "MR_small_RLE.dcm", "SC_rgb_rle_16bit.dcm"):
        path = get_testdata_file(name, download=False)
        assert isinstance(path, str)
        dataset = read_dicom(Path(path))
        picture = picture_of(dataset, frames_of(dataset, None)[0], None)
        assert picture.size == (dataset.Columns, dataset.Rows)
        assert np.asarray(picture).std() > 5


def test_a_table_asks_about_files(tmp_path: Path, jsonl: Any, importing: Any) -> None:
    write(tmp_path / "scans", "a", RAMP, PatientID="p1")
    write(tmp_path / "scans", "b", RAMP.T, PatientID="p2")
    rows = [
        {"question": "Is there a nodule?", "answer": "no", "image": "scans/a.dcm"},
        {"question": "Is there a nodule?", "answer": "no", "image": ["scans/a.dcm", "scans/b.dcm"]},
        {"question": "Is there a nodule?", "answer": "no"},
    ]
    outcome, dataset = importing("dicom", jsonl(rows), window=(40, 400))
    assert dict(outcome.refused) == {"its DICOM files are of several patients": 1, "it names no DICOM file": 1}
    (item,) = dataset.items
    assert (item.answer, item.metadata["modality"], len(item.media)) == ("no", "CT", 1)


def test_a_file_that_is_no_dicom(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"nothing")
    with pytest.raises(UnusableRow, match="cannot be read"):
        read_dicom(tmp_path / "a.dcm")
