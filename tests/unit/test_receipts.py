from __future__ import annotations

import pytest

from fastmove.dimse.move import Evidence
from fastmove.notices import InstanceRefused, InstanceStored
from fastmove.services.receipts import Receipts


def refused(event: str, uid: str = "1.2.3", originator: str = "") -> InstanceRefused:
    return InstanceRefused(1, "1.2", uid, 0xA700, event, "", originator)


def stored(uid: str = "1.2.3", originator: str = "") -> InstanceStored:
    return InstanceStored(1, "1.2", uid, "1.2.840.10008.1.2", 10, "/x", "new", "PACS", originator, 0)


@pytest.fixture
def receipts() -> Receipts:
    kept = Receipts()
    kept.originator = "FASTMOVE"
    return kept


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ("fs.open", "storage_failures"),
        ("fs.write", "storage_failures"),
        ("fs.rename", "storage_failures"),
        ("fs.fsync", "storage_failures"),
        ("internal", "storage_failures"),
        ("store.uid_empty", "policy_refusals"),
        ("store.uid_length", "policy_refusals"),
        ("store.uid_chars", "policy_refusals"),
        ("store.duplicate_differs", "policy_refusals"),
        ("store.no_class", "rejected"),
        ("store.no_instance", "rejected"),
        ("store.class_context", "rejected"),
        ("store.no_dataset", "rejected"),
        ("store.empty", "rejected"),
        ("store.uid_mismatch", "rejected"),
        ("store.class_mismatch", "rejected"),
        ("store.truncated", "rejected"),
        ("store.no_uid_in_ds", "rejected"),
        ("store.deflate", "rejected"),
        ("store.too_big", "oversized"),
    ],
)
def test_refused_object_is_evidence_of_one_kind(receipts: Receipts, event: str, field: str) -> None:
    receipts(refused(event))
    assert receipts.refusals == {field: 1}
    assert field in Evidence.fields


def test_object_that_comes_again_and_is_stored_is_no_refusal_any_more(receipts: Receipts) -> None:
    receipts(refused("fs.write", "1.2.3"))
    receipts(refused("fs.write", "1.2.4"))
    receipts.on_stored(stored("1.2.3"))
    assert receipts.refusals == {"storage_failures": 1}


def test_object_that_is_refused_twice_is_one(receipts: Receipts) -> None:
    receipts(refused("fs.write"))
    receipts(refused("fs.write"))
    assert receipts.refusals == {"storage_failures": 1}


def test_stored_object_of_another_move_puts_nothing_right(receipts: Receipts) -> None:
    receipts(refused("fs.write"))
    receipts.on_stored(stored(originator="ANOTHER"))
    assert receipts.refusals == {"storage_failures": 1}
    assert (receipts.stored, receipts.objects, receipts.nbytes) == (set(), 0, 0)


def test_object_that_grows_is_a_sign_of_life(receipts: Receipts) -> None:
    arriving = 0
    receipts.arriving = lambda _: arriving
    assert receipts.alive_at == 0.0
    arriving = 1000
    first = receipts.alive_at
    assert first > 0.0
    assert receipts.alive_at == first
    assert receipts.next("FASTMOVE").arriving is receipts.arriving
