"""What is printed at the end: a line for each fault, and a line for each kind."""

from statistics import median

from benchmarks.chaos.findings import Finding


def show(rows: list[tuple[Finding, float]], kinds: list[str]) -> None:
    """``rows``: the findings, each with the goodput of its run."""
    lines: list[tuple[str, ...]] = [
        ("", "fault", "hit", "ended", "done about it", "again s", "lost s", "goodput", "recovered")
    ]
    for number, (finding, goodput) in enumerate(rows, 1):
        lines.append((
            str(number), finding.hit.kind, finding.victims, finding.ended, finding.action,
            _seconds(finding.seconds), f"{finding.lost_s:.1f}", f"{goodput:.3f}", _yes(finding.recovered),
        ))  # fmt: skip
    _print(lines)
    print(
        "again s: until what it ended ran again; lost s: seconds of a CPU whose work was done again"
    )
    print()
    lines = [("kind", "injected", "ended work", "recovered", "median s", "max s")]
    for kind in kinds:
        found = [finding for finding, _ in rows if finding.hit.kind == kind]
        seconds = [finding.seconds for finding in found if finding.seconds is not None]
        recovered = sum(finding.recovered for finding in found)
        middle, longest = (median(seconds), max(seconds)) if seconds else (None, None)
        lines.append((
            kind, str(len(found)), str(len(seconds)), str(recovered), _seconds(middle), _seconds(longest),
        ))  # fmt: skip
    _print(lines)


def _print(lines: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(map(str.ljust, line, widths)).rstrip())


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _yes(value: bool) -> str:
    return "yes" if value else "NO"
