"""Which licence a text is: by its SPDX tag, or by the sentences that make a licence what it is.

Names are those of the SPDX list. A text that holds several licences has all their names, joined by AND: files
that gather the licences of bundled parts look like that, and nothing tells which part is whose.
"""

import re

HEAD_CHARACTERS = 4000  # of a file, in which a tag is looked for
TAG = re.compile(
    r"SPDX-License-Identifier:[ \t]*([\w.+() -]+?)[ \t]*(?:\*/|-->|[\"'#]|$)", re.MULTILINE
)
UNKNOWN = "unknown"

GRANT = "permission is hereby granted, free of charge, to any person obtaining a copy"
FEE = "permission to use, copy, modify,? (?:and/or|and) distribute this software for any purpose with or without fee"
REDISTRIBUTE = "redistribution and use in source and binary forms"
# name -> (a pattern that must be there, one that must not); of the text in lower case with single spaces
SENTENCES: dict[str, tuple[str, str]] = {
    "MIT": (f"{GRANT}.{{,900}}permission notice.{{,60}}shall be included", "advertising or otherwise to promote"),
    "MIT-0": (f"{GRANT}.{{,300}}to do so\\. the software is provided", ""),
    "Apache-2.0": (r"apache license,? version 2\.0,? january 2004|licensed under the apache license, version 2\.0", ""),
    "BSD-4-Clause": (f"{REDISTRIBUTE}.*all advertising materials mentioning", ""),
    "BSD-3-Clause": (f"{REDISTRIBUTE}.*(?:neither the names? of|names? of .{{,80}} may not be used)", "all advertising materials"),
    "BSD-2-Clause": (REDISTRIBUTE, "neither the name|may not be used to endorse|all advertising materials"),
    "ISC": (f"{FEE} is hereby granted, provided that the above copyright notice", ""),
    "0BSD": (f"{FEE} is hereby granted\\.", ""),
    "Unlicense": ("this is free and unencumbered software released into the public domain", ""),
    "CC0-1.0": ("cc0 1.0 universal", ""),
    "Zlib": ("altered source versions must be plainly marked as such", ""),
    "BSL-1.0": ("boost software license - version 1.0", ""),
    "PSF-2.0": ("python software foundation license version 2", ""),
    "MPL-2.0": (r"mozilla public license,? (?:version|v\.) 2\.0", ""),
    "EPL-2.0": (r"eclipse public license - v 2\.0", ""),
    "AGPL-3.0": ("gnu affero general public license version 3", ""),
    "LGPL-3.0": ("gnu lesser general public license version 3", ""),
    "LGPL-2.1": (r"gnu lesser general public license version 2\.1", ""),
    "GPL-3.0": ("gnu general public license version 3", ""),
    "GPL-2.0": ("gnu general public license version 2", ""),
}  # fmt: skip


def tag_of(text: str) -> str:
    """What the SPDX-License-Identifier at the start of a file says; empty without one."""
    found = TAG.search(text[:HEAD_CHARACTERS])
    return found.group(1).strip() if found else ""


def license_of(text: str) -> str:
    """The licence that a file named LICENSE or the like holds; ``unknown`` if it is none of those above."""
    if tag := tag_of(text):
        return tag
    plain = " ".join(text.lower().split())
    names = [
        name
        for name, (there, absent) in SENTENCES.items()
        if re.search(there, plain) and not (absent and re.search(absent, plain))
    ]
    return " AND ".join(names) or UNKNOWN


def is_allowed(expression: str, allowed: list[str]) -> bool:
    """Whether an SPDX expression can be met by ``allowed`` licences: of OR one of them, of AND all."""
    flat = expression.replace("(", " ").replace(")", " ")
    if "(" in expression and " AND " in expression and " OR " in expression:
        return all(
            _named(name, allowed) for name in re.split(r" (?:AND|OR) ", flat)
        )  # the stricter reading
    return any(
        all(_named(name, allowed) for name in choice.split(" AND "))
        for choice in flat.split(" OR ")
    )


def _named(name: str, allowed: list[str]) -> bool:
    name = name.strip()
    return name in allowed or name.removesuffix("-only").removesuffix("-or-later") in allowed
