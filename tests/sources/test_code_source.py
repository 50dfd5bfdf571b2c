"""Trees of repositories and lists of files: whose work, under which licence, in which language."""

import importlib.metadata
import json
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from llmhpc.errors import ConfigError
from llmhpc.jobs import collect
from llmhpc.sources import Reading, code, texts_of
from llmhpc.sources.licenses import is_allowed, license_of
from llmhpc.sources.programs import SECRETS, language_of, unfit

GPL = "GNU GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007\n"
PROGRAM = "def greet(name):\n    return f'hello {name}'\n"


def mit():
    """As an installed package has it."""
    (path,) = (f for f in importlib.metadata.files("rich") if f.name.lower().startswith("license"))
    return path.locate().read_text()


def tree(root, files):
    for name, body in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body if isinstance(body, bytes) else body.encode())
    return root


def read(cfg, rank=0, ranks=1):
    notes = []
    reading = Reading(rank=rank, ranks=ranks, note=notes.append)
    return list(texts_of(cfg, reading)), reading.skipped, notes


@pytest.fixture
def repositories(tmp_path):
    return tree(
        tmp_path / "repositories",
        {
            "good/LICENSE": mit(),
            "good/src/greet.py": PROGRAM,
            "good/src/greet.cc": "// hello\nstd::string greet() { return name; }\n",
            "good/copied/COPYING": GPL,
            "good/copied/file.py": PROGRAM,
            "good/copied/own.py": f"# SPDX-License-Identifier: Apache-2.0\n{PROGRAM}",
            "good/node_modules/left/pad.js": "module.exports = pad;\n",
            "good/lib/jquery-3.1.js": "var jquery = 1;\n",
            "good/greet.pb.go": "package greet\n",
            "good/tables.py": f"# This file was automatically generated.\n{PROGRAM}",
            "good/data.json": "{}",
            "good/wide.js": f"var x = '{'a' * 2000}';\n",
            "good/marks.py": "#####-----#####\n" * 30,
            "good/old.c": "/* caf\xe9 of the village */ int main;\n".encode("latin-1"),
            "good/blob.py": b"\0\1\2",
            "good/key.py": f"KEY = 'AKIA{'ABCDEFGHIJKLMNOP'}'\n{PROGRAM}",
            "good/run": f"#!/usr/bin/env python3\n{PROGRAM}",
            "none/greet.py": PROGRAM,
        },
    )


def test_each_file_is_taken_or_counted_by_the_reason_that_is_meant_for_it(repositories):
    found, skipped, notes = read(code.Config(folder=str(repositories)))
    assert {text.id: text.metadata["programming_language"] for text in found} == {
        "good/copied/own.py": "Python",
        "good/run": "Python",
        "good/src/greet.cc": "C++",
        "good/src/greet.py": "Python",
    }
    licenses = Counter(text.metadata["license"] for text in found)
    assert licenses == {"MIT": 3, "Apache-2.0": 1}
    assert skipped == {
        "vendored": 1,  # node_modules is not even walked
        "generated": 2,
        "license GPL-3.0": 1,
        "license unknown": 1,
        "language unknown": 3,  # LICENSE, COPYING and JSON
        "long lines": 1,
        "few letters and digits": 1,
        "not UTF-8": 1,
        "binary": 1,
        "secret: AWS key": 1,
    }
    assert notes == [{"reason": "secret: AWS key", "source": "good/key.py", "source_offset": 0}]


def test_a_repository_without_anything_wanted_does_not_fail_its_rank(
    tmp_path, repositories, run_stage, read_documents
):
    cfg = collect.Config(source=code.Config(folder=str(repositories)), ranks=2)
    counts = run_stage(cfg, {}, tmp_path / "out")
    assert counts["documents"] == 4 == len(read_documents(tmp_path / "out"))


def test_a_list_of_files_needs_no_tree(tmp_path):
    rows = [
        {"repository": "a/b", "path": "x/greet.py", "content": PROGRAM, "license": "MIT"},
        {"repository": "a/b", "path": "x/greet2.py", "content": PROGRAM, "license": "GPL-2.0-only"},
        {"repository": "a/b", "path": "vendor/greet.py", "content": PROGRAM, "license": "MIT"},
        {"repository": "a/b", "path": "greet.py"},
        {"repository": "c/d", "path": "greet.rs", "content": "fn main() { greet(); }\n"},
    ]
    path = tmp_path / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, skipped, _ = read(code.Config(paths=[str(path)]))
    assert [text.id for text in found] == ["a/b/x/greet.py"] and found[0].text == PROGRAM
    assert skipped == {
        "license GPL-2.0-only": 1,
        "vendored": 1,
        "no repository, path, content": 1,
        "license unknown": 1,
    }


@pytest.mark.parametrize(
    ("path", "text", "language"),
    [
        ("a.h", "int f(void);\n", "C"),
        ("a.h", "#include <x>\nnamespace a {\n}\n", "C++"),
        ("a.m", "@implementation A\n", "Objective-C"),
        ("a.m", "function y = f(x)\n", "MATLAB"),
        ("a.pl", "use strict;\n", "Perl"),
        ("a.pl", "likes(X) :- true.\n", "Prolog"),
        ("sub/Makefile", "all:\n", "Makefile"),
        ("bin/tool", "#!/bin/bash -e\n", "Shell"),
        ("bin/tool", "#! /usr/bin/env -S python3.11\n", "Python"),
        ("data.bin", "x", ""),
        (".gitignore", "*.o\n", ""),
    ],
)
def test_the_language_is_told_by_name_content_or_interpreter(path, text, language):
    assert language_of(path, text) == language


SECRET_EXAMPLES = {
    "AWS key": "AKIA" + "Q2WERTYUIOPASDFG",
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "GitHub token": "ghp_" + "a1" * 18,
    "GitLab token": "glpat-" + "a1_b" * 5,
    "Slack token": "xoxb-" + "1234567890-abc",
    "Google key": "AIza" + "b" * 35,
    "Stripe key": "sk_live_" + "a" * 24,
    "OpenAI key": "sk-" + "a" * 20 + "T3BlbkFJ" + "b" * 20,
    "Hugging Face token": "hf_" + "aB" * 17,
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_of_every_kind_is_found(name):
    assert unfit(f"token = '{SECRET_EXAMPLES[name]}'\n{PROGRAM}") == f"secret: {name}"
    assert unfit(f"token = '{SECRET_EXAMPLES[name][:12]}'\n{PROGRAM}") == ""


def test_licences_of_installed_packages_are_those_that_they_declare():
    agreed = Counter()
    for package in importlib.metadata.distributions():
        declared = package.metadata.get("License-Expression") or ""
        files = [
            f for f in package.files or [] if f.name.lower().startswith(("license", "copying"))
        ]
        if declared in code.PERMISSIVE and len(files) == 1:
            text = files[0].locate().read_text(errors="replace")
            agreed[declared in license_of(text).split(" AND ")] += 1
    assert agreed[True] > 50 and not agreed[False]


def test_an_expression_is_allowed_if_one_of_or_and_all_of_and_are():
    allowed = ["MIT", "Apache-2.0"]
    assert is_allowed("MIT", allowed) and is_allowed("MIT OR GPL-3.0-only", allowed)
    assert is_allowed("MIT AND Apache-2.0", allowed) and is_allowed("(MIT OR Apache-2.0)", allowed)
    assert not is_allowed("MIT AND GPL-2.0", allowed) and not is_allowed("unknown", allowed)
    assert not is_allowed("(MIT OR GPL-2.0) AND Apache-2.0", allowed)  # stricter than need be
    assert is_allowed("GPL-3.0-or-later", ["GPL-3.0"])


def test_the_standard_library_passes_where_it_is_allowed(tmp_path):
    folder = tmp_path / "lib"
    folder.mkdir()
    library = Path(sysconfig.get_path("stdlib"))
    files = {p.name: p.read_bytes() for p in sorted(library.glob("[a-d]*.py"))}
    tree(folder, {"python/" + name: body for name, body in files.items()})
    found, skipped, _ = read(
        code.Config(folder=str(folder), licenses=["unknown"], languages=["Python"])
    )
    assert len(found) > 0.9 * len(files), skipped
    assert not any(reason.startswith("secret") for reason in skipped)


def test_what_is_set_wrongly_is_named(tmp_path):
    with pytest.raises(ConfigError, match="folder=, paths=.*: one of the two"):
        code.Config()
    with pytest.raises(ConfigError, match="source.folder=/no/such: no such folder"):
        code.Config(folder="/no/such").before_launch(1)
    with pytest.raises(ConfigError, match="ranks=1: there are only 0 repositories"):
        code.Config(folder=str(tmp_path)).before_launch(1)
