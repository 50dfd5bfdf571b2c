"""The child process of the pydoc source: imports modules and writes the page pydoc renders for each.

Run by its path, never imported by the launcher's process: what it imports may crash, hang, or print.
It needs nothing but the standard library.
"""

import json
import os
import re
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

SITE = "/python/site-packages"
STDLIB = "/python/lib"
PREFIX = "/python"
SHARED_PREFIXES = {"/", "/usr", "/usr/local"}  # not only Python's: left as they are in the text
ADDRESS = re.compile(r"(?: |&nbsp;)(?:at(?: |&nbsp;)0x[0-9a-fA-F]{6,16}|handle [0-9a-f]{8,16})")
FOR_THE_LOADER = ("LD_LIBRARY_PATH",)  # the interpreter may need it to start; no page may show it


def neutral() -> Callable[[str], str]:
    """A function that rewrites what differs between machines: folders of this Python, addresses."""
    paths = sysconfig.get_paths()
    names = {sys.prefix: PREFIX, sys.base_prefix: PREFIX, sys.exec_prefix: PREFIX}
    names = {path: name for path, name in names.items() if path not in SHARED_PREFIXES}
    names |= {paths["stdlib"]: STDLIB, paths["platstdlib"]: STDLIB}
    names |= {paths["purelib"]: SITE, paths["platlib"]: SITE}
    names |= {str(Path(path).resolve()): name for path, name in names.items()}
    longest_first = sorted(names.items(), key=lambda item: (-len(item[0]), item[0]))

    def rewrite(text: str) -> str:
        for path, name in longest_first:
            text = text.replace(path, name)
        return ADDRESS.sub("", text)

    return rewrite


def renderer() -> Callable[[str], bytes | None]:
    """A function from a module's name to pydoc's page, or to None if it cannot be imported.

    The page has the same bytes on every machine. A long value is shortened only after its paths are
    rewritten, and a set is shown in the order of what its members look like, not of their addresses.
    """
    import pydoc

    rewrite, shorten = neutral(), pydoc.cram
    pydoc.cram = lambda text, maxlen: shorten(rewrite(text), maxlen)

    class Values(pydoc.HTMLRepr):
        def repr_set(self, x: Iterable[Any], level: int) -> str:
            return super().repr_set(in_order(x), level)  # type: ignore[arg-type]

        def repr_frozenset(self, x: Iterable[Any], level: int) -> str:
            return super().repr_frozenset(in_order(x), level)  # type: ignore[arg-type]

    class Pages(pydoc.HTMLDoc):
        repr = Values().repr

    def in_order(members: Iterable[Any]) -> list[Any]:
        return sorted(members, key=lambda member: rewrite(repr(member)))

    def render(module: str) -> bytes | None:
        try:
            pydoc.safeimport(module)
        except pydoc.ErrorDuringImport:
            return None
        if (found := sys.modules.get(module)) is None:
            return None
        html = Pages()
        page = html.page(module, html.document(found, module))
        return rewrite(page).encode("utf-8", "replace")

    return render


def main(pipe: int, timeout_s: int, modules: list[str]) -> None:
    """Write a line of JSON ``{module, bytes}`` and the page for each module; -1 bytes: no import."""
    for name in FOR_THE_LOADER:
        os.environ.pop(name, None)
    render = renderer()
    with os.fdopen(pipe, "wb") as out:
        for module in modules:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, even inside C code
            signal.alarm(timeout_s)
            page = render(module)
            signal.alarm(0)
            size = -1 if page is None else len(page)
            out.write(
                json.dumps({"module": module, "bytes": size}).encode() + b"\n" + (page or b"")
            )
            out.flush()
    os._exit(0)  # threads that a module started must not keep the process alive


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
