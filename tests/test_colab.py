"""The notebooks of colab/: they run whole, their saved outputs are of this code, and they show what they promise."""

import configparser
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "colab"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
WITH_A_VIEWER = ("quickstart", "from_rl_games")
EXTRAS = {"deploy": "export,gymnax"}  # what a notebook needs besides
SMALL = 2_000_000  # bytes of a saved notebook, at most

_spec = importlib.util.spec_from_file_location("colab_execute", FOLDER / "execute.py")
execute = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(execute)

every = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)


class Cell(dict):
    """A cell or output as nbformat gives it: keys are attributes too."""

    __getattr__ = dict.__getitem__


def read(file):
    """A notebook as nbformat would read it, which needs no extra; texts that are lists of lines are joined."""
    notebook = json.loads(file.read_text(), object_hook=Cell)
    for cell in notebook.cells:
        cell["source"] = "".join(cell.source)
        for output in cell.get("outputs", ()):
            for holder, names in ((output, ("text",)), (output.get("data", {}), tuple(output.get("data", {})))):
                holder.update({name: "".join(holder[name]) for name in names if name in holder})
    return notebook


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def install_cell(file):
    return code(read(file))[0].source


def shown(notebook, kind):
    """What its outputs hold of one MIME type."""
    return [
        output.data[kind] for cell in code(notebook) for output in cell.outputs if kind in output.get("data", {})
    ]  # fmt: skip


def test_there_are_notebooks_and_the_quickstart_is_one():
    named = {"quickstart", "ppo_by_hand", "sweep", "your_environment", "from_rl_games", "deploy"}
    assert named == {file.stem for file in NOTEBOOKS}


def test_the_quickstart_and_the_readme_name_the_others():
    text = "".join(cell.source for cell in read(FOLDER / "quickstart.ipynb").cells)
    readme = (FOLDER.parent / "README.md").read_text()
    for name in {file.stem for file in NOTEBOOKS} - {"quickstart"}:
        assert f"* `{name}`: " in text and f"`{name}` (" in readme


@every
def test_saved_outputs_are_of_a_whole_run_of_this_code(file):
    notebook = read(file)
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    assert notebook.metadata.jaxrl.executed == execute.fingerprint(notebook), f"run python colab/execute.py {file.name}"


@every
def test_saved_outputs_are_clean_small_and_tell_of_no_machine(file):
    assert execute.faults(read(file)) == []
    assert file.stat().st_size < SMALL


@every
def test_saved_outputs_show_pictures_and_the_viewer(file):
    notebook = read(file)
    assert shown(notebook, "image/png")
    pages = shown(notebook, "text/html")
    assert len(pages) == (file.stem in WITH_A_VIEWER)
    assert all("sandbox=" in page and "webgl2" in page and "http-equiv" in page for page in pages)


def test_faults_are_found():
    def holding(**output):
        cell = {"cell_type": "code", "source": "", "outputs": [output]}
        return execute.faults(json.loads(json.dumps({"cells": [cell]}), object_hook=Cell))

    assert holding(output_type="stream", name="stdout", text="100% of runs/a") == []
    assert "complains" in holding(output_type="stream", name="stderr", text="UserWarning")[0]
    assert "failed: ValueError" in holding(output_type="error", ename="ValueError", evalue="no")[0]
    assert "/home/" in holding(output_type="stream", name="stdout", text="in /home/me")[0]
    assert "2031-05-06" in holding(output_type="display_data", data={"text/html": "on 2031-05-06"})[0]


@every
def test_the_first_cell_of_code_installs(file):
    """All of them the same, but for a line that adds extras, so that what is said of one holds for all."""
    first = install_cell(file)
    if extras := EXTRAS.get(file.stem):
        line = f'extra = extra[:-1] + ",{extras}]" if extra else "[{extras}]"'
        first = re.sub(rf"^    {re.escape(line)}  # .*\n", "", first, count=1, flags=re.MULTILINE)
    assert first == install_cell(FOLDER / "quickstart.ipynb") and "%pip install" in first


@pytest.mark.parametrize(
    "driver, extra", [("", ""), ("CUDA Version: 12.8", "cuda12"), ("CUDA Version: 13.1", "cuda13")]
)
@every
def test_the_install_cell_asks_pip_for_jaxrl_and_the_accelerators_jax(file, driver, extra, monkeypatch):
    asked = []
    lines = install_cell(file).replace('SOURCE = ""', 'SOURCE = "git+https://host/x"')
    # What IPython makes of a line that begins with %pip.
    lines = re.sub(r"%pip (.*)", lambda magic: f"pip(f'{magic[1]}')", lines)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(os, "popen", lambda command: Cell(read=lambda: driver))
    exec(lines, {"pip": asked.append})
    extras = ",".join(filter(None, [extra, EXTRAS.get(file.stem)]))
    extras = f"[{extras}]" if extras else ""
    assert asked == [f'install --quiet "jaxrl{extras} @ git+https://host/x"']


def test_the_extras_that_notebooks_ask_for_exist():
    known = configparser.ConfigParser()
    known.read(FOLDER.parent / "setup.cfg")
    asked = {extra for extras in EXTRAS.values() for extra in extras.split(",")}
    assert asked <= set(known["options.extras_require"])


def test_the_install_cell_does_nothing_where_jaxrl_is_and_says_what_is_missing_where_it_is_not(monkeypatch):
    lines = install_cell(FOLDER / "quickstart.ipynb").replace("%pip", "raise AssertionError  #")
    exec(lines, {})
    monkeypatch.delenv("JAXRL_SOURCE", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="write into SOURCE where it lives"):
        exec(lines, {})


@pytest.mark.notebook
@pytest.mark.slow
@every
def test_it_runs_whole_and_shows_what_is_saved(file):
    import nbformat

    ran = execute.execute(nbformat.read(file, as_version=4))
    assert execute.faults(ran) == []
    saved = read(file)
    for kind in ("image/png", "text/html"):
        assert len(shown(ran, kind)) == len(shown(saved, kind))


@pytest.mark.notebook
def test_a_notebook_that_fails_stays_as_it_was(tmp_path):
    import nbformat

    cells = [nbformat.v4.new_code_cell("1 + 1"), nbformat.v4.new_code_cell("1 / 0")]
    file = tmp_path / "wrong.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), file)
    before = file.read_bytes()
    command = [sys.executable, str(FOLDER / "execute.py"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr
    assert file.read_bytes() == before
