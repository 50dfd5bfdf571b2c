"""The files about questions that are put as letters: calibration.json, and forms.json against cloze."""

from pathlib import Path

from llmhpc.files import write_json

CALIBRATION, FORMS = "calibration.json", "forms.json"


def write(out: Path) -> None:
    """Write both files from the scores and items in ``out``, each where there are questions for it."""
    from llmhpc.evals.judging import calibration, forms, runs

    run = runs.read(out, "", 0, {*runs.COLUMNS, *calibration.COLUMNS})
    for name, found in (
        (CALIBRATION, calibration.calibration(run.items)),
        (FORMS, forms.forms(run)),
    ):
        if found:
            write_json(out / name, found)
