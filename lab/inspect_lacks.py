"""What the records of a run lack, for `mpq inspect --stats`: packets that the capture missed, records that a qlog lost. What is not
there is then no proof that it did not happen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.capture_files import CaptureFiles
from lab.inspect_run import RunRecord
from lab.pcapng import Interface, Statistics
from lab.qlog_file import QlogError, QlogFile, beside

FILES_SHOWN = 20


def capture_lacks(run: RunRecord, interfaces: list[Interface], statistics: dict[int, Statistics]) -> dict[str, Any]:
    """`dropped`: packets by interface that the kernel dropped before the capture read them, where the file says so (Interface
    Statistics Blocks); `limit`: that had no room in the file, `outside_windows`: that stood in no window; null: nobody says."""
    dropped = {interfaces[number].name or str(number): figures.dropped for number, figures in sorted(statistics.items())
               if figures.dropped is not None}
    told = run.result.get("capture")
    told = told if isinstance(told, dict) else {}
    more = {name: value for name, key in (("limit", "dropped_limit"), ("outside_windows", "outside_windows"))
            if isinstance(value := told.get(key), int) and value >= 0}
    return {"dropped": dropped or None, "limit": more.get("limit"), "outside_windows": more.get("outside_windows")}


def qlog_lacks(capture: Path) -> list[dict[str, Any]]:
    """Of the logs beside a capture: `lost` records for which the engine's ring had no room, `full`: from then on packets are not
    told, `problem`: it does not read."""
    found: list[dict[str, Any]] = []
    for end, path in beside(capture):
        try:
            file = QlogFile(path)
            file.scan()
            found.append({"end": end, "lost": file.lost, "full": file.full_ns is not None, "problem": None})
        except (QlogError, OSError) as error:
            found.append({"end": end, "lost": None, "full": None, "problem": str(error)})
    return found


def files_lines(files: CaptureFiles) -> list[str]:
    """Which packets stand in which file, when there are several."""
    if len(files.parts) == 1:
        return []
    lines = []
    for part in files.parts:
        which = f"No. {part.first} to {part.last}" if part.last >= part.first else "no packets"
        lines.append(f"  {part.path.name}: {which}" + (f"; {part.problem}" if part.problem else ""))
    if len(lines) > FILES_SHOWN:
        lines[FILES_SHOWN // 2:-FILES_SHOWN // 2] = [f"  ... and {len(lines) - FILES_SHOWN} more between"]
    return [f"{len(files.parts)} files, read as one capture:", *lines]


def lacks_lines(capture: dict[str, Any], qlogs: list[dict[str, Any]]) -> list[str]:
    if capture["dropped"] is None:
        lines = ["capture: it does not say what it missed"]
    else:
        missed = {name: count for name, count in capture["dropped"].items() if count}
        lines = [f"capture: {sum(missed.values())} packets dropped before it read them"
                 + (f" ({', '.join(f'{name} {count}' for name, count in missed.items())})" if missed else "")]
    if capture["limit"]:
        lines.append(f"capture: {capture['limit']} packets had no room in the file")
    if capture["outside_windows"]:
        lines.append(f"capture: {capture['outside_windows']} packets outside its windows")
    for one in qlogs:
        if one["problem"]:
            lines.append(f"qlog {one['end']}: {one['problem']}")
        else:
            full = "; it was full: packets are told up to then only" if one["full"] else ""
            lines.append(f"qlog {one['end']}: {one['lost']} records lost{full}")
    return lines
