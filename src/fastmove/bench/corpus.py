"""Synthetic archives: patients, studies, series and instances that follow from a seed, made when they are asked for.

Nothing is kept of an object: its UID says its place, its place says its attributes, and its bytes are a template, the
values in it, and a part of some noise that all objects share.  So an archive may be as large as one likes.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from fastmove.bench.modality import MODALITIES, Kind, payload_bytes
from fastmove.bench.profiles import PROFILES, Examination
from fastmove.bench.template import UID_FORMAT, Template
from fastmove.errors import ConfigurationError
from fastmove.storage.filemeta import DicomFile
from fastmove.uids import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)

_NOISE_BYTES: Final = 4 << 20
"""Payloads are random only over this length; longer ones repeat it."""

_SHIFTS: Final = 1 << 16
"""Instances begin at so many different places of the noise."""

# How many digits of a UID say what: whose it is, and its place.
_DIGITS: Final = (10, 10, 6, 8)
_SPARE: Final = 38 - sum(_DIGITS)

MADE: Final = Path()
"""The path of an object that is in no file."""

_PREPARED: Final = 256
"""Series that are remembered with what their instances have in common."""

FIRST_DAY: Final = date(2000, 1, 1)
DAYS: Final = 9000
"""Studies are spread over so many days, in the order of their numbers."""

STUDIES_PER_PATIENT: Final = 3
"""Of a profile, on average."""

MAX_STUDIES: Final = 10**8 - 1


class Study(NamedTuple):
    """What was done, and how many instances each of its series has."""

    examination: Examination
    instances: tuple[int, ...]


class Corpus:
    """A synthetic archive.

    Studies, series and instances have numbers from 1 on.  Everything follows from the examinations, the seed, and the
    name, which tells apart what has the same numbers.
    """

    def __init__(
        self,
        studies: int,
        examinations: Sequence[Examination],
        seed: int = 1,
        *,
        name: str = "",
        transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN,
        studies_per_patient: int = STUDIES_PER_PATIENT,
    ) -> None:
        self.studies = studies
        self._examinations = tuple(itertools.chain.from_iterable([each] * each.weight for each in examinations))
        self._seed = seed
        self._transfer_syntax = transfer_syntax
        self._studies_per_patient = studies_per_patient
        self._mark = f"{zlib.crc32(f'{name} {seed}'.encode()):0{_DIGITS[0]}d}"
        places = "".join(f"%0{digits}d" for digits in _DIGITS[1:])
        self._uid_format = f"{UID_FORMAT.partition('{')[0]}{self._mark}{places}{'0' * _SPARE}"
        self._per_day = -(-studies // DAYS)
        self._prepared: dict[tuple[int, int], _Prepared] = {}
        self._templates: dict[Kind, Template] = {}
        self._noise: dict[str, Noise] = {}
        self._longest: dict[str, int] = {}
        for series in itertools.chain.from_iterable(each.series for each in examinations):
            longest = max(self._longest.get(series.modality, 0), payload_bytes(series.payload))
            self._longest[series.modality] = longest

    @classmethod
    def of_profile(cls, name: str, studies: int, seed: int = 1, *, own: int = 0) -> Corpus:
        """An archive of a named profile, with UIDs of its `own`; ConfigurationError if there is none of that name."""
        if name not in PROFILES:
            raise ConfigurationError("profile", f"{name!r} is none of {', '.join(PROFILES)}")
        if not 1 <= studies <= MAX_STUDIES:
            raise ConfigurationError("studies", f"{studies} is not from 1 to {MAX_STUDIES:,}")
        return cls(studies, PROFILES[name], seed, name=f"{name}{own or ''}")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """SOP class and transfer syntax of all that it may hold."""
        return [(MODALITIES[modality].sop_class_uid, self._transfer_syntax) for modality in self._longest]

    # ------------------------------------------------------------------ its shape

    def study(self, number: int) -> Study:
        """A study: its series, and how many instances they have."""
        examination = self._examinations[self._drawn(number, 0) % len(self._examinations)]
        counts = tuple(
            series.least + self._drawn(number, at) % (series.most - series.least + 1)
            for at, series in enumerate(examination.series, 1)
        )
        return Study(examination, counts)

    def _drawn(self, *numbers: int) -> int:
        """A number that looks random and follows from these (SplitMix64, by Vigna)."""
        state = self._seed
        for number in numbers:
            state = (state + 0x9E3779B97F4A7C15 * (number + 1)) & 0xFFFFFFFFFFFFFFFF
            state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
            state = ((state ^ state >> 27) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
            state ^= state >> 31
        return state

    def patient(self, study: int) -> int:
        """The patient of a study: neighbours belong together."""
        return (study - 1) // self._studies_per_patient + 1

    def of_patient(self, patient: int) -> range:
        """The numbers of a patient's studies."""
        first = (patient - 1) * self._studies_per_patient + 1
        return range(max(first, 1), min(first + self._studies_per_patient, self.studies + 1))

    @property
    def patients(self) -> int:
        """How many there are."""
        return self.patient(self.studies)

    def day(self, study: int) -> date:
        """When a study was done."""
        return FIRST_DAY + timedelta(days=study // self._per_day)

    def between(self, first: date, last: date) -> range:
        """The numbers of the studies of these days."""
        start, end = (first - FIRST_DAY).days * self._per_day, ((last - FIRST_DAY).days + 1) * self._per_day
        return range(max(start, 1), max(1, min(end, self.studies + 1)))

    def uid(self, *numbers: int) -> str:
        """The UID of a study, of a series of it, or of an instance of that."""
        padded = (*numbers, 0, 0)[:3]
        return self._uid_format % padded

    def place(self, uid: str) -> tuple[int, ...] | None:
        """The numbers that a UID was made of; None if it is none of ours."""
        before = UID_FORMAT.partition("{")[0]
        digits = uid.removeprefix(before)
        if len(digits) != 38 or not digits.isdigit() or uid == digits or not digits.startswith(self._mark):
            return None
        ends = list(itertools.accumulate(_DIGITS))
        numbers = tuple(int(digits[start:end]) for start, end in itertools.pairwise(ends))
        while numbers and not numbers[-1]:
            numbers = numbers[:-1]
        return numbers if self._holds(numbers) and self.uid(*numbers) == uid else None

    def _holds(self, numbers: tuple[int, ...]) -> bool:
        if not numbers or not 1 <= numbers[0] <= self.studies:
            return False
        counts = self.study(numbers[0]).instances if len(numbers) > 1 else ()
        if len(numbers) > 1 and not 1 <= numbers[1] <= len(counts):
            return False
        return len(numbers) < 3 or 1 <= numbers[2] <= counts[numbers[1] - 1]

    # ------------------------------------------------------------------ its objects

    def texts(self, study: int, series: int = 1, instance: int = 1) -> dict[str, str]:
        """The attributes of an instance as text by keyword, those of its series, study and patient among them."""
        values = self.values(study, series) | self.values_of(study, series, instance)
        return self.template(study, series).texts(values)

    def file(self, study: int, series: int, instance: int) -> DicomFile:
        """An instance, to be sent: it is in no file."""
        prepared = self._prepared.get((study, series))
        if prepared is None:
            if len(self._prepared) >= _PREPARED:
                self._prepared.clear()
            prepared = self._prepared[study, series] = _Prepared(self, study, series)
        return prepared.file(instance)

    def write(self, study: int, series: int, instance: int, path: Path) -> DicomFile:
        """The same as a Part-10 file; OSError."""
        template = self.template(study, series)
        head = template.head(self.values(study, series) | self.values_of(study, series, instance))
        payload = self.noise(template).parts(self.shift(study, series, instance), template.payload)
        with path.open("wb") as file:
            file.writelines((head, *payload, template.tail))
        offset, nbytes = template.dataset_offset, len(head) + template.payload + len(template.tail)
        uid, syntax = self.uid(study, series, instance), template.kind.transfer_syntax
        return DicomFile(path, template.sop_class_uid, uid, syntax, offset, nbytes - offset)

    def template(self, study: int, series: int) -> Template:
        """What the instances of a series are made of."""
        kind = self.study(study).examination.kind(series - 1).replace(transfer_syntax=self._transfer_syntax)
        known = self._templates.get(kind)
        if known is None:
            known = self._templates[kind] = Template(kind)
        return known

    def noise(self, template: Template) -> Noise:
        """What they have for payload."""
        name = template.kind.modality
        known = self._noise.get(name)
        if known is None:
            swapped = MODALITIES[name].swapped and not TRANSFER_SYNTAXES[self._transfer_syntax].little_endian
            nbytes = min(self._longest[name], _NOISE_BYTES) + 2 * _SHIFTS
            known = self._noise[name] = Noise(name, self._seed, nbytes, swapped=swapped)
        return known

    def shift(self, study: int, series: int, instance: int) -> int:
        """Where in the noise an instance begins."""
        return (self._drawn(study, series) + instance) % _SHIFTS * 2

    def values(self, study: int, series: int) -> dict[str, str]:
        """What all instances of a series have in place of the placeholders, each of the same length."""
        patient = self.patient(study)
        minute = self._drawn(study, 1 << 20) % 600
        return {
            "StudyInstanceUID": self.uid(study),
            "SeriesInstanceUID": self.uid(study, series),
            "PatientID": f"SYN{patient:08d}",
            "PatientName": f"Synthetic^{patient:08d}",
            "StudyID": f"{study:08d}",
            "AccessionNumber": f"ACC{study:08d}",
            "StudyDate": f"{self.day(study):%Y%m%d}",
            "StudyTime": f"{8 + minute // 60:02}{minute % 60:02}00",
            "SeriesNumber": f"{series:<7d}",
        }

    def values_of(self, study: int, series: int, instance: int) -> dict[str, str]:
        """What each has for itself."""
        return {"SOPInstanceUID": self.uid(study, series, instance), "InstanceNumber": f"{instance:<8d}"}


class _Prepared:
    """A series whose instances are made quickly: they differ by two values, and by where in the noise they begin."""

    def __init__(self, corpus: Corpus, study: int, series: int) -> None:
        self._corpus = corpus
        self._numbers = study, series
        template = self._template = corpus.template(study, series)
        self._noise = corpus.noise(template)
        self._first_shift = corpus.shift(study, series, 0)
        pieces, self._left = template.filled(corpus.values(study, series))
        whole = len(b"".join(pieces))
        varying = sum(len(corpus.values_of(study, series, 1)[keyword]) for keyword in self._left)
        self._nbytes = whole + varying - template.dataset_offset + template.payload + len(template.tail)
        self._pieces = pieces
        self._offset = template.dataset_offset

    def file(self, instance: int) -> DicomFile:
        """An instance."""
        template, noise = self._template, self._noise
        values = self._corpus.values_of(*self._numbers, instance)
        parts = [self._pieces[0]]
        for keyword, piece in zip(self._left, self._pieces[1:], strict=True):
            parts.append(values[keyword].encode("ascii"))
            parts.append(piece)
        before = b"".join(parts)[self._offset :]
        shift = (self._first_shift // 2 + instance) % _SHIFTS * 2
        if template.tail:  # what comes after the payload cannot come from a file that comes before it
            before, shift = b"".join((before, *noise.parts(shift, template.payload), template.tail)), 0
        return DicomFile(
            MADE,
            template.sop_class_uid,
            values["SOPInstanceUID"],
            template.kind.transfer_syntax,
            shift,
            self._nbytes,
            before,
            noise,
        )


class Noise:
    """Random payload in memory that all objects of a modality share."""

    def __init__(self, modality: str, seed: int, nbytes: int, *, swapped: bool) -> None:
        words = MODALITIES[modality].noise(np.random.default_rng(seed), nbytes // 2)
        self.view = memoryview((words.byteswap() if swapped else words).tobytes())

    def parts(self, start: int, nbytes: int) -> Iterator[memoryview]:
        """So much of it from there on, and again from its beginning."""
        while nbytes:
            part = self.view[start : start + nbytes]
            yield part
            nbytes, start = nbytes - len(part), 0


def written(corpus: Corpus, folder: Path) -> Iterator[tuple[DicomFile, dict[str, str]]]:
    """Every instance of an archive as a file, as `objects`."""
    for study in range(1, corpus.studies + 1):
        for series, instances in enumerate(corpus.study(study).instances, 1):
            directory = folder / f"{study:06}" / f"{series:06}"
            directory.mkdir(parents=True, exist_ok=True)
            for instance in range(1, instances + 1):
                file = corpus.write(study, series, instance, directory / f"{instance:06}.dcm")
                yield file, corpus.texts(study, series, instance)
