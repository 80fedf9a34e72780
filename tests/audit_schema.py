"""Whether an audit message is one: the schema of PS3.15 A.5.1 (RELAX NG there), and the tables of A.5.3, as rows."""

from __future__ import annotations

import base64
import re
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element, fromstring

TEXT: Final = ".*"
TOKEN: Final = r"\S+( \S+)*"
BOOLEAN: Final = "true|false|1|0"
DATE_TIME: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
CODED: Final = {"csd-code": TOKEN, "codeSystemName": TOKEN, "originalText": TOKEN, "displayName?": TOKEN}


class Rule(NamedTuple):
    """What an element may have: attributes (`?`: optional), children in order (`?`, `*`, `+`, `|`), text."""

    attributes: dict[str, str] = {}
    children: tuple[str, ...] = ()
    text: str = r"\s*"


RULES: Final = {
    "AuditMessage": Rule(
        children=(
            "EventIdentification",
            "ActiveParticipant+",
            "AuditSourceIdentification",
            "ParticipantObjectIdentification*",
        )
    ),
    "EventIdentification": Rule(
        {"EventActionCode?": "[CRUDE]", "EventDateTime": DATE_TIME, "EventOutcomeIndicator": "0|4|8|12"},
        ("EventID", "EventTypeCode*", "EventOutcomeDescription?"),
    ),
    "EventID": Rule(CODED),
    "EventTypeCode": Rule(CODED),
    "EventOutcomeDescription": Rule(text=TEXT),
    "ActiveParticipant": Rule(
        {
            "UserID": TEXT,
            "AlternativeUserID?": TEXT,
            "UserName?": TEXT,
            "UserIsRequestor": BOOLEAN,
            "NetworkAccessPointID?": TOKEN,
            "NetworkAccessPointTypeCode?": "[1-5]",
        },
        ("RoleIDCode*",),
    ),
    "RoleIDCode": Rule(CODED),
    "AuditSourceIdentification": Rule(
        {"AuditEnterpriseSiteID?": TOKEN, "AuditSourceID": TOKEN}, ("AuditSourceTypeCode*",)
    ),
    "AuditSourceTypeCode": Rule({"csd-code": "[1-9]"}),
    "ParticipantObjectIdentification": Rule(
        {
            "ParticipantObjectID": TOKEN,
            "ParticipantObjectTypeCode?": "[1-4]",
            "ParticipantObjectTypeCodeRole?": "[1-9]|1[0-9]|2[0-6]",
            "ParticipantObjectDataLifeCycle?": "[1-9]|1[0-5]",
            "ParticipantObjectSensitivity?": TOKEN,
        },
        (
            "ParticipantObjectIDTypeCode",
            "ParticipantObjectName|ParticipantObjectQuery",
            "ParticipantObjectDetail*",
            "ParticipantObjectDescription*",
        ),
    ),
    "ParticipantObjectIDTypeCode": Rule(CODED),
    "ParticipantObjectName": Rule(text=TOKEN),
    "ParticipantObjectDetail": Rule({"type": TOKEN, "value": "[A-Za-z0-9+/]+={0,2}"}),
    "ParticipantObjectDescription": Rule(children=("MPPS*", "Accession*", "SOPClass*")),
    "SOPClass": Rule({"UID?": TOKEN, "NumberOfInstances": r"\d+"}, ("Instance*",)),
    "Instance": Rule({"UID": TOKEN}),
}


def check(element: Element) -> None:
    """AssertionError for what the schema does not allow."""
    rule = RULES[element.tag]
    names = {name.rstrip("?"): pattern for name, pattern in rule.attributes.items()}
    required = {name for name in rule.attributes if not name.endswith("?")}
    assert required <= set(element.attrib) <= set(names), f"{element.tag}: {element.attrib}"
    for name, value in element.attrib.items():
        assert re.fullmatch(names[name], value, re.DOTALL), f"{element.tag} {name}={value!r}"
    assert re.fullmatch(rule.text, element.text or "", re.DOTALL), f"{element.tag}: {element.text!r}"
    parts = ((child.rstrip("?*+"), child[len(child.rstrip("?*+")) :]) for child in rule.children)
    order = "".join(f"(({names}) ){often}" for names, often in parts)
    assert re.fullmatch(order, "".join(f"{child.tag} " for child in element)), f"{element.tag}: {list(element)}"
    for child in element:
        check(child)


ROLES: Final = {"110152": "destination", "110153": "source"}


def checked(message: str) -> Element:
    """The message, if it is one: by the schema, and by the table of its event in A.5.3."""
    root = fromstring(message)
    check(root)
    event = root[0].find("EventID")
    assert event is not None
    objects = {each[0].get("csd-code"): each for each in root.findall("ParticipantObjectIdentification")}
    participants = root.findall("ActiveParticipant")
    if event.get("csd-code") == "110113":
        assert root[0].find("EventTypeCode") is not None
        assert root[0].get("EventActionCode") == "E"
        (subject,) = objects.values()
        detail = subject.find("ParticipantObjectDetail")
        assert detail is not None and detail.get("type") == "Alert Description"
        assert base64.b64decode(detail.get("value", ""), validate=True)
        assert all(each.get("UserIsRequestor") == "false" for each in participants[1:])
        return root
    assert event.get("csd-code") in ("110102", "110104")
    assert (root[0].get("EventActionCode") == "E") == (event.get("csd-code") == "110102")
    roles = [code.get("csd-code") for each in participants for code in each.findall("RoleIDCode")]
    assert sorted(map(str, roles)) == ["110152", "110153"], "one source, one destination"
    assert objects.keys() == {"110180", "2"}, "a study, and one patient"
    assert objects["110180"].get("ParticipantObjectTypeCode") == "2"
    assert objects["110180"].get("ParticipantObjectTypeCodeRole") == "3"
    assert objects["2"].get("ParticipantObjectTypeCode") == "1"
    return root


def brief(message: str) -> tuple[str, str, str, str, dict[str, int]]:
    """Event, action, outcome, study, and objects by SOP class."""
    root = checked(message)
    study = next(e for e in root.findall("ParticipantObjectIdentification") if e[0].get("csd-code") == "110180")
    classes = {str(e.get("UID")): int(e.get("NumberOfInstances", "")) for e in study.iter("SOPClass")}
    event = root[0]
    action, outcome = event.get("EventActionCode", ""), event.get("EventOutcomeIndicator", "")
    return str(event[0].get("csd-code")), action, outcome, study.get("ParticipantObjectID", ""), classes
