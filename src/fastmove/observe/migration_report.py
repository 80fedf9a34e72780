"""The report of a migration as one page that stands alone: for auditors, on screen and on paper, without a script."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from fastmove.observe.page import HEADROOM, Figure, X, Y, duration, share, size, templates
from fastmove.observe.plot import Bar, Line, bars, chart, linear, times

Document = Mapping[str, Any]

OUTCOMES: Final = {
    "complete": "complete",
    "partial": "partial: parked, some of it is stored",
    "unmigratable": "unmigratable: parked, nothing is stored",
    "open": "open: not moved yet, or to be tried again",
}
"""What becomes of studies, in words and in the order of the plot."""

RATES: Final = (("bytes", "MB/s", 1e6), ("instances", "instances/s", 1.0))
"""What is plotted over time, its unit, and by what it is divided."""


def html(document: Document) -> str:
    """The page."""
    page = templates().get_template("migration_report.html.jinja")
    return page.render(
        document=document,
        title=f"Migration report: {document['batch']['name']}, from {document['batch']['source']}",
        cards=list(_cards(document)),
        figures=[_outcomes(document["studies"]), *_over_time(document["rate"])],
        outcomes=[(OUTCOMES[name].partition(":"), document["studies"][name]) for name in OUTCOMES],
        columns=_columns(document["unfinished"]["listed"]),
        settings=[(name.replace("_", " "), _setting(value)) for name, value in document["batch"]["settings"].items()],
    )


def _setting(value: Any) -> str:
    """As people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "; ".join(map(_setting, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def _cards(document: Document) -> Iterable[tuple[str, str]]:
    """The few figures that count."""
    studies, instances = document["studies"], document["instances"]
    asked = studies["asked"]
    yield share(studies["complete"], asked), f"complete: {studies['complete']:,} of {asked:,} studies"
    listed = sum(each["studies"] for each in document["verdicts"] if each["verdict"] == "complete")
    yield f"{listed:,}", "of these by the list of the source"
    yield f"{document['proved']:,}", "of these proved to be at the destination"
    yield f"{studies['partial']:,}", "partial"
    yield f"{studies['unmigratable']:,}", "unmigratable"
    if studies["open"]:
        yield f"{studies['open']:,}", "open"
    yield f"{instances['stored']:,}", "instances stored"
    yield size(document["bytes"]), "stored"
    seconds = document["time"]["seconds"]
    if seconds:
        yield duration(seconds), "from the first to the last"


def _outcomes(studies: Mapping[str, int]) -> Figure:
    asked = studies["asked"] or 1
    shares = [studies[name] / asked for name in OUTCOMES]
    row = Bar(f"{studies['asked']:,} studies asked", shares, [f"{studies[name]:,}" for name in OUTCOMES])
    names = [text.partition(":")[0] for text in OUTCOMES.values()]
    return Figure(
        "What became of the studies",
        bars([row], names, title="shares of the studies", most=1.0),
        f"Each study counts once. The source has something of {studies['found']:,} of them; "
        "the tables below say what the others came to.",
    )


def _over_time(rate: Mapping[str, Any] | None) -> Iterable[Figure]:
    if rate is None:
        return
    began, interval = datetime.fromisoformat(rate["began_at"]).timestamp(), rate["interval_s"]
    for name, unit, scale in RATES:
        points = [(began + (at + 0.5) * interval, each / interval / scale) for at, each in enumerate(rate[name])]
        plot = chart(
            [Line("", points)],
            times(began, began + len(points) * interval, *X),
            linear(0, HEADROOM * max(each for _, each in points), *Y),
            title=f"{unit} over time",
            x_label="UTC",
            y_label=unit,
            dots=False,
        )
        text = f"Averages of {duration(interval)}. Low is: paused, no window open, or a PACS that was away."
        yield Figure(f"{unit} over time", plot, text)


def _columns(listed: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the table of studies that are not complete has."""
    patient = ["patient_id"] if any("patient_id" in each for each in listed) else []
    return ["study_instance_uid", *patient, "outcome", "modalities", "stored", "missing", "reason"]
