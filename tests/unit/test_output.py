"""Forms in which commands write what they found."""

from __future__ import annotations

import pytest

from fastmove.cli.find import _Printer


def test_csv_of_find_has_nothing_that_a_spreadsheet_reckons(capsys: pytest.CaptureFixture[str]) -> None:
    printer = _Printer("csv")
    printer.match({"PatientID": "-7", "PatientName": '=HYPERLINK("http://x","y")'})
    printer.match({"PatientID": "7-", "PatientName": "Doe^J"})
    printer.end()
    assert capsys.readouterr().out.splitlines() == [
        "PatientID,PatientName",
        '\'-7,"\'=HYPERLINK(""http://x"",""y"")"',
        "7-,Doe^J",
    ]
