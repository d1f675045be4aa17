"""`report.html` of a run: one page that is readable offline, in print, in the light and in the dark."""

from __future__ import annotations

from pathlib import Path

from lab.errors import LabError
from lab.report.files import RunFiles
from lab.report.page import page

REPORT_NAME = "report.html"


def write_report(run_dir: Path) -> Path:
    """LabError when the run has no result, or the page cannot be kept."""
    path = run_dir / REPORT_NAME
    keep(page(RunFiles.read(run_dir)), path)
    return path


def keep(text: str, path: Path) -> None:
    """LabError when it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LabError(f"{path}: cannot be written: {error.strerror}") from None
