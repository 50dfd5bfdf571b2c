"""Numbers for people; the exact value stays in the page, in the element's ``value`` and its tooltip."""

import math
from datetime import datetime, timezone

from markupsafe import Markup

UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"))
BYTE_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
MISSING = Markup('<span class="none">–</span>')


def count(value: float | None) -> Markup:
    """4,142,336 as 4.14M; below a million in full."""
    if value is None:
        return MISSING
    for size, unit in UNITS:
        if value >= size:
            return exact(value, f"{value / size:.3g}{unit}")
    return exact(value, f"{value:,.0f}")


def size(value: float | None) -> Markup:
    """Bytes in the unit that fits; decimal, 1 MB is a million bytes."""
    if value is None:
        return MISSING
    for unit_bytes, unit in BYTE_UNITS:
        if value >= unit_bytes:
            return exact(value, f"{value / unit_bytes:.3g} {unit}", " bytes")
    return exact(value, f"{value:.0f} B", " bytes")


def duration(seconds: float | None) -> Markup:
    """8.4 s, 3 min 20 s, 2 h 05 min, 3 d 4 h."""
    if seconds is None:
        return MISSING
    return exact(seconds, clock(seconds), " s")


def clock(seconds: float) -> str:
    """The same as text."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def share(part: float, whole: float) -> str:
    """A percentage with as many digits as it needs; tiny is not zero, nearly all is not all."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "<0.1%"
    if 99.9 < percent < 100:
        return ">99.9%"
    return f"{percent:.0f}%" if percent >= 99.95 or percent == 0 else f"{percent:.1f}%"


def number(value: float | None, digits: int = 4) -> Markup:
    """A measured value with so many significant digits."""
    if value is None or math.isnan(value):
        return MISSING
    return exact(value, significant(value, digits))


def signed(value: float) -> Markup:
    """A difference of scores: its sign, and four digits behind the point."""
    return exact(value, f"{value:+.4f}")


def significant(value: float, digits: int = 4) -> str:
    """The same as text; trailing zeros stay, so that digits line up."""
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}" if places <= 6 else f"{value:.{digits - 1}e}"


def moment(timestamp: float | None) -> str:
    """A time of day in UTC, whatever the time zone of the node."""
    if timestamp is None:
        return "–"
    return datetime.fromtimestamp(timestamp, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def exact(value: float, text: str, unit: str = "") -> Markup:
    """``text`` for the eye, ``value`` for the tooltip and for machines."""
    whole = isinstance(value, int) or value.is_integer()
    tooltip = f"{value:,.0f}" if whole else f"{value:,}"
    element = '<data value="{}" title="{}{}">{}</data>'
    return Markup(element).format(int(value) if whole else value, tooltip, unit, text)
