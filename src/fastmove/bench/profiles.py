"""Named profiles: what an archive holds, as examinations with their series, numbers of instances and sizes.

The shapes are those of equipment of today, stored without compression.  Numbers vary between studies within their
ranges; which examination a study is follows from its number, in the proportions of the weights.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fastmove.bench.modality import Kind, Pixels


class Series(NamedTuple):
    """A series of an examination: so many instances, within a range."""

    description: str
    modality: str
    payload: Pixels | int
    least: int
    most: int


class Examination(NamedTuple):
    """What is done at one appointment."""

    description: str
    weight: int
    """How often, compared with the others of its profile."""

    series: tuple[Series, ...]

    def kind(self, number: int) -> Kind:
        """The kind of the objects of a series, counted from 0."""
        series = self.series[number]
        return Kind(series.modality, series.payload, self.description, series.description)


_CT: Final = Pixels(512, 512)
_MR: Final = Pixels(256, 256)
_CR: Final = Pixels(2140, 1760)
_MG: Final = Pixels(3328, 2560)
_TOMO: Final = Pixels(2457, 1890, frames=60)
_US: Final = Pixels(600, 800, frames=45, samples=3)
_US_STILL: Final = Pixels(600, 800, samples=3)
_TILE: Final = 512

_REPORT: Final = Series("Report", "SR", 6_000, 1, 1)


def _slide(frames: int) -> Pixels:
    return Pixels(_TILE, _TILE, frames=frames, samples=3)


CT: Final = (
    Examination("CT head", 3, (Series("Scout", "CT", _CT, 1, 2), Series("Axial 1 mm", "CT", _CT, 140, 200))),
    Examination(
        "CT thorax abdomen",
        5,
        (
            Series("Scout", "CT", _CT, 2, 2),
            Series("Thorax 1.5 mm", "CT", _CT, 220, 320),
            Series("Abdomen 3 mm", "CT", _CT, 120, 180),
            Series("Coronal", "CT", _CT, 70, 100),
        ),
    ),
    Examination("CT coronary angiography", 1, (Series("Scout", "CT", _CT, 2, 2), Series("CTA", "CT", _CT, 500, 900))),
)
MR: Final = (
    Examination(
        "MR brain",
        3,
        (
            Series("Localizer", "MR", _MR, 3, 9),
            Series("T1", "MR", _MR, 24, 30),
            Series("T2", "MR", _MR, 24, 30),
            Series("FLAIR", "MR", _MR, 24, 30),
            Series("DWI", "MR", _MR, 60, 90),
            Series("T1 3D", "MR", _MR, 160, 192),
        ),
    ),
    Examination("MR knee", 2, tuple(Series(name, "MR", _MR, 24, 36) for name in ("PD cor", "PD sag", "PD tra", "T1"))),
)
US: Final = (
    Examination(
        "US abdomen", 2, (Series("Clips", "US", _US, 4, 12), Series("Stills", "US", _US_STILL, 15, 30), _REPORT)
    ),
    Examination("Echocardiography", 1, (Series("Clips", "US", _US, 30, 60), _REPORT)),
)
MG: Final = (
    Examination("Mammography screening", 3, (Series("Standard views", "MG", _MG, 4, 4),)),
    Examination(
        "Mammography with tomosynthesis",
        1,
        (Series("Standard views", "MG", _MG, 4, 4), Series("Tomosynthesis", "TOMO", _TOMO, 2, 4)),
    ),
)
CR: Final = (
    Examination("Chest two views", 3, (Series("PA and lateral", "CR", _CR, 2, 2),)),
    Examination("Bone", 2, (Series("Two planes", "DX", _CR, 2, 4),)),
)
SR: Final = (Examination("Report", 1, (_REPORT,)),)
SLIDE: Final = (
    Examination(
        "Whole-slide image",
        1,
        (
            Series("Volume", "SM", _slide(900), 1, 1),
            Series("Pyramid", "SM", _slide(60), 1, 2),
            Series("Thumbnail", "SM", _slide(1), 1, 2),
        ),
    ),
)


def _weighed(*profiles: tuple[int, tuple[Examination, ...]]) -> tuple[Examination, ...]:
    """Several together, in these proportions."""
    mixed = []
    for share, examinations in profiles:
        total = sum(each.weight for each in examinations)
        mixed += [each._replace(weight=share * 100 * each.weight // total) for each in examinations]
    return tuple(mixed)


PROFILES: Final[dict[str, tuple[Examination, ...]]] = {
    "ct": CT,
    "mr": MR,
    "us": US,
    "mg": MG,
    "cr": CR,
    "sr": SR,
    "slide": SLIDE,
    "hospital": _weighed((46, CR), (22, CT), (14, US), (12, MR), (5, MG), (1, SR)),
}
"""By name; `hospital` is a day of all of them in the proportions of a general hospital, without slides."""
