"""The door `python -m jaxrl.export`, on a run folder."""

import importlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import jaxrl
from jaxrl.host.export import optional

export = importlib.import_module("jaxrl.export")
EXPERIMENT = Path(__file__).parent / "host" / "probe_experiment.py"
pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    short = {"total_env_steps": 256, "env.name": "target", "checkpoint.interval": 128, "eval.episodes": 0}
    return jaxrl.train(EXPERIMENT, tmp_path_factory.mktemp("runs") / "target", short).workdir


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, to be written to."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def door(capsys):
    """(exit status, what is printed, errors) of a command line."""

    def call(*arguments):
        status = export.main(list(map(str, arguments)))
        return status, *capsys.readouterr()

    return call


def test_it_writes_into_the_run_and_says_what_goes_in_and_out(run, door):
    status, printed, errors = door(run)
    assert (status, errors) == (0, "")
    assert re.fullmatch(
        rf"target \(probe\) after 256 env steps, to {run}/export\n"
        r"  obs float32\[N, 2\] → action float32\[N, 1\]\n"
        r"  policy.onnx, [\d,]+ bytes, differs by at most [\d.]+e-\d+ on 1,800 observations\n"
        r"  policy.stablehlo, [\d,]+ bytes, differs by at most [\d.]+e[-+]\d+ on 1,800 observations\n"
        r"  policy.safetensors, [\d,]+ bytes\n",
        printed,
    )
    policy, again = jaxrl.load_policy(run), jaxrl.load_policy(run / "export")
    obs = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    np.testing.assert_allclose(again(obs), np.clip(policy(obs), -1, 1), atol=1e-6)
    assert again.env_steps == 256 and not list(run.glob(".*"))


def test_an_export_is_kept_unless_force_is_said(run, door):
    first = run / "export" / "contract.json"
    assert door(run, "--checkpoint=128")[0] == 0
    before = first.read_bytes()
    status, printed, errors = door(run)
    assert (status, printed) == (2, "") and "holds an export; give another --out, or --force" in errors
    assert first.read_bytes() == before
    assert door(run, "--force")[0] == 0
    assert first.read_bytes() != before and jaxrl.load_policy(run / "export").env_steps == 256
    assert sorted(path.name for path in run.glob("*export*")) == ["export"]


def test_what_is_no_export_is_never_replaced(run, door, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    for out in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        status, _, errors = door(run, f"--out={out}", "--force")
        assert status == 2 and "holds something that is no export" in errors and errors.count("\n") == 1
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"


def test_the_function_writes_what_the_door_writes_and_shows_its_summary(trained, run, door):
    written = jaxrl.export(trained, out=run / "mine")
    status, out, _ = door(run, f"--out={run / 'doors'}")
    told, ports = out.replace(str(run / "doors"), str(run / "mine")).splitlines()[:2]
    assert status == 0 and repr(written).splitlines()[:2] == [told, ports] and "policy.onnx" in repr(written)
    for name in written.contract["files"]:
        assert (written.folder / name).is_file()
    policy = jaxrl.load_policy(trained)
    obs = np.random.default_rng(0).normal(size=(5, *policy.spec.obs.shape)).astype(np.float32)
    expected = np.clip(policy(obs), policy.spec.action.low, policy.spec.action.high)
    np.testing.assert_allclose(jaxrl.load_policy(written.folder)(obs), expected, atol=1e-6)


def test_a_graph_that_differs_is_not_written(run, door, monkeypatch):
    from jaxrl.host.export import graph

    build = graph.build

    def wrong(*arguments):
        import onnx

        model = build(*arguments)
        [kernel] = [x for x in model.graph.initializer if x.name == "params.policy_torso.Dense_0.kernel"]
        kernel.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(kernel) * np.float32(1.001), kernel.name)
        )
        return model

    monkeypatch.setattr(graph, "build", wrong)
    status, printed, errors = door(run)
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert re.match(r"error: policy.onnx differs from the policy by [\d.e-]+ in 'action' on \w+ observations", errors)
    assert not list(run.glob("*export*")) and not list(run.glob(".*"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--checkpoint=lates"], "checkpoint 'lates' does not exist; did you mean 'latest'?"),
        (["--outt=x"], "'--outt=x' is not understood; did you mean '--out'?"),
        (["--out=/dev/null/x"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, door, arguments, message):
    status, printed, errors = door(run, *arguments)
    assert (status, printed) == (2, "")
    assert errors.startswith("error: ") and errors.count("\n") == 1 and message in errors


def test_a_missing_library_is_one_line_that_names_the_extra(run, door, monkeypatch):
    real = importlib.import_module

    def missing(name):
        if name.startswith("onnxruntime"):
            raise ImportError("No module named 'onnxruntime'")
        return real(name)

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    status, _, errors = door(run)
    assert status == 2 and errors.count("\n") == 1 and "pip install 'jaxrl[export]'" in errors


def test_help_names_the_files(capsys):
    with pytest.raises(SystemExit) as end:
        export.main(["--help"])
    assert end.value.code == 0
    assert "policy.onnx" in capsys.readouterr().out


def test_the_guides_python_runs(trained, tmp_path, monkeypatch):
    blocks = re.findall(
        r"```python\n(.*?)```", (Path(__file__).parent.parent / "docs" / "deployment.md").read_text(), re.S
    )
    assert len(blocks) == 4
    shutil.copytree(trained, tmp_path / "runs" / "ant")
    monkeypatch.chdir(tmp_path)
    assert export.main(["runs/ant"]) == 0
    known: dict = {}
    for block in blocks:
        exec(compile(block, "docs/deployment.md", "exec"), known)
    np.testing.assert_allclose(known["policy"](known["obs"]), known["action"], atol=1e-6)
