"""The compared items as columns on disk: 64-bit keys, pictures and texts by row number, without one Python object a
row."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from residency.platform.records import Item, Split
from residency.synthesis.duplicates.item_keys import FREE, ItemKeys, says_yes_or_no

ROW = np.dtype(
    [
        ("content", "<u8"), ("question", "<u8"), ("answer", "<u8"), ("options", "<u8"), ("patient", "<u8"),
        ("media_key", "<u8"),  # of the media hashes, in order
        ("side", "u1"), ("rank", "u1"), ("yes_no", "?"), ("free", "?"), ("words", "<u2"),
        ("media_at", "<u8"), ("media_count", "<u2"), ("text_at", "<u8"), ("id_bytes", "<u2"), ("text_bytes", "<u4"),
        ("answer_bytes", "<u4"),
    ]
)  # fmt: skip
RANKS = {Split.HELD_OUT: 1, Split.TUNE: 2, Split.TRAIN: 3}  # 0 is a benchmark; the lower one stays
CHUNK = 8192


class RowStore:
    """Rows are numbered as they are added; ``sides`` names what ``side`` counts. Read only after ``finish``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.sides: list[str] = []
        self._rows: list[tuple[int | bool, ...]] = []
        self._media: list[int] = []
        self._texts: list[bytes] = []
        self._media_at = self._text_at = 0
        self._count = 0
        for name in ("rows", "media", "texts"):
            self._path(name).write_bytes(b"")

    def __len__(self) -> int:
        return self._count

    def add(self, item: Item, keys: ItemKeys, pictures: tuple[int, ...], media_key: int, side: str, rank: int) -> None:
        """Append one item; ``pictures`` are its pictures' numbers."""
        if side not in self.sides:
            self.sides.append(side)
        texts = [text.encode(errors="replace") for text in (item.id, item.question, item.answer)]
        self._rows.append(
            (
                keys.content, keys.question, keys.answer, keys.options, keys.patient, media_key,
                self.sides.index(side), rank, says_yes_or_no(item.answer), item.answer_kind in FREE,
                min(keys.question_words, 65535),
                self._media_at, len(pictures), self._text_at, len(texts[0]), len(texts[1]), len(texts[2]),
            )
        )  # fmt: skip
        self._media.extend(pictures)
        self._texts.extend(texts)
        self._media_at += len(pictures)
        self._text_at += sum(map(len, texts))
        self._count += 1
        if len(self._rows) >= CHUNK:
            self._flush()

    def finish(self) -> None:
        """Write what is left and open the columns for reading."""
        self._flush()
        self.rows = np.memmap(self._path("rows"), ROW, "r") if self._count else np.zeros(0, ROW)
        self.media = np.memmap(self._path("media"), np.uint32, "r") if self._media_at else np.zeros(0, np.uint32)
        self._bytes = np.memmap(self._path("texts"), np.uint8, "r") if self._text_at else np.zeros(0, np.uint8)

    def column(self, name: str) -> NDArray[Any]:
        """One column in memory."""
        return np.ascontiguousarray(self.rows[name])

    def _text(self, start: int, length: int) -> str:
        return self._bytes[start : start + length].tobytes().decode()

    def id(self, row: int) -> str:
        found = self.rows[row]
        return self._text(int(found["text_at"]), int(found["id_bytes"]))

    def question(self, row: int) -> str:
        found = self.rows[row]
        return self._text(int(found["text_at"]) + int(found["id_bytes"]), int(found["text_bytes"]))

    def answer(self, row: int) -> str:
        found = self.rows[row]
        start = int(found["text_at"]) + int(found["id_bytes"]) + int(found["text_bytes"])
        return self._text(start, int(found["answer_bytes"]))

    def pictures(self, row: int) -> NDArray[np.uint32]:
        """The numbers of the row's pictures, in order."""
        found = self.rows[row]
        start = int(found["media_at"])
        return self.media[start : start + int(found["media_count"])]

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.bin"

    def _flush(self) -> None:
        for name, data in (
            ("rows", np.array(self._rows, ROW).tobytes()),
            ("media", np.array(self._media, np.uint32).tobytes()),
            ("texts", b"".join(self._texts)),
        ):
            with self._path(name).open("ab") as file:
                file.write(data)
        self._rows.clear()
        self._media.clear()
        self._texts.clear()
