"""The launch files of docs/pods: read by what would run them, as far as that can be had, and by jaxrl's own door."""

import json
import pathlib
import re
import shlex
import string
import subprocess
import sys

import pytest
import yaml

from jaxrl.functional import minibatches
from jaxrl.host import config as configs

ROOT = pathlib.Path(__file__).parents[1]
BIN = pathlib.Path(sys.executable).parent
PODS = ROOT / "docs" / "pods"
SCRIPTS = sorted(PODS.glob("*.sh"))
JOBSETS = sorted(PODS.glob("*.yaml"))
NAMES = {"NAME": "ant", "IMAGE": "registry/jaxrl:latest", "CLAIM": "runs"}
# What says who is who, and nothing of the config.
WHO = ("--coordinator", "--num_processes", "--process_id")
# The options of these files in https://slurm.schedmd.com/sbatch.html, and what it says their values look like.
SBATCH = {
    "array": r"\d+-\d+(%\d+)?",
    "cpus-per-task": r"\d+",
    "gpus-per-node": r"(\w+:)?\d+",
    "job-name": r"\w+",
    "nodes": r"\d+(-\d+)?",
    "ntasks": r"\d+",
    "ntasks-per-node": r"\d+",
    "open-mode": r"append|truncate",
    "output": r"(%[xjAa]|[\w.-])+",
    "requeue": None,
    "signal": r"(B:)?[A-Z]+@\d+",  # seconds before the end
    "time": r"\d+:\d\d:\d\d",
}
# https://jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2/
JOBSET_SPEC = {"replicatedJobs", "network", "successPolicy", "failurePolicy", "startupPolicy", "suspend", "coordinator",
               "managedBy", "ttlSecondsAfterFinished"}  # fmt: skip
FAILURE_POLICY = {"maxRestarts", "restartStrategy", "rules"}
FAILURE_RULE = {"name", "action", "onJobFailureReasons", "targetReplicatedJobs"}
REPLICATED_JOB = {"name", "groupName", "template", "replicas", "dependsOn"}


def name_of(path):
    return path.name


def understood(words):
    """Raises what the door would say of the words behind `python -m jaxrl.train`."""
    arguments = configs.parse_command_line(words)
    partial = configs.load(str(ROOT / "experiments" / pathlib.Path(arguments.config).name))
    return configs.resolve(partial, arguments.overrides), arguments


def commands(script):
    """What follows `-m jaxrl.train` in a script, its variables filled in with what it gives them itself."""
    text = script.read_text()
    given = dict(re.findall(r"^(\w+)=\$\{\w+:?-([^}]*)\}", text, re.M))
    fixed = {"SEED": "3", "NUM_ENVS": given.get("NUM_ENVS", ""), "EXPERIMENT": "experiments/ant.py", "RUNS": "/runs"}
    joined = text.replace("\\\n", " ")
    found = re.findall(r"-m jaxrl\.train((?: +--[\w.]+=(?:\"[^\"]*\"|[^\s\"']+))+)", joined)
    return [shlex.split(re.sub(r"\$\{?(\w+)\}?", lambda name: fixed.get(name[1], name[1]), line)) for line in found]


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_bash_reads_the_script(script):
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert script.read_text().startswith("#!/bin/bash\n")


@pytest.mark.pods
@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_shellcheck_finds_nothing_in_the_script(script):
    done = subprocess.run([BIN / "shellcheck", str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_the_door_understands_what_the_script_calls(script):
    [words] = commands(script)
    config, arguments = understood(words)
    assert arguments.workdir
    assert config.ppo.num_envs % 16 == 0


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_paths_and_names_are_variables_at_the_top(script):
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    settings = [i for i, line in enumerate(lines) if re.match(r"[A-Z_]+=\$\{[A-Z_]+(:?-|:\?)", line)]
    assert settings == list(range(1, 1 + len(settings))) and len(settings) >= 3  # right behind `set`
    below = "\n".join(lines[settings[-1] + 1 :])
    assert not re.search(r"/home/|/Users/|~/", below)


@pytest.mark.parametrize("script", [path for path in SCRIPTS if "slurm" in path.name], ids=name_of)
def test_slurm_knows_the_options(script):
    options = re.findall(r"^#SBATCH (.*)$", script.read_text(), re.M)
    assert len(options) > 5
    for option in options:
        name, _, value = option.removeprefix("--").partition("=")
        assert name in SBATCH, option
        assert re.fullmatch(SBATCH[name] or "", value), option
    told = dict(option.removeprefix("--").partition("=")[::2] for option in options)
    # Saves in time, is started again, and goes on in the same log.
    assert told["signal"].startswith("TERM@") and int(told["signal"].partition("@")[2]) >= 120
    assert "requeue" in told and told["open-mode"] == "append"
    # JAX takes one process for one GPU under Slurm.
    assert told.get("ntasks-per-node", told.get("ntasks")) == told["gpus-per-node"]


def jobset(path):
    """The file as `envsubst` hands it on; kubectl's own variables stay."""
    text = path.read_text()
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set(NAMES)
    assert re.search(r"^#   export " + " ".join(rf"{name}=\S+" for name in NAMES) + "$", text, re.M)
    return yaml.safe_load(string.Template(text).safe_substitute(NAMES))


@pytest.mark.parametrize("path", JOBSETS, ids=name_of)
def test_the_jobset_has_the_fields_of_a_jobset(path):
    told = jobset(path)
    assert (told["apiVersion"], told["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert set(told["spec"]) <= JOBSET_SPEC
    assert set(told["spec"]["failurePolicy"]) <= FAILURE_POLICY
    [rule] = told["spec"]["failurePolicy"]["rules"]
    assert set(rule) <= FAILURE_RULE and rule["action"] == "FailJobSet"
    [workers] = told["spec"]["replicatedJobs"]
    assert set(workers) <= REPLICATED_JOB


@pytest.mark.pods
@pytest.mark.parametrize("path", JOBSETS, ids=name_of)
def test_kubernetes_takes_the_jobs_of_the_jobset(path):
    import kubernetes_validate

    [workers] = jobset(path)["spec"]["replicatedJobs"]
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "workers"},
        "spec": workers["template"]["spec"],
    }
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(json.loads(json.dumps(job)), version, strict=True)
    job["spec"]["template"]["spec"]["containers"][0]["imagee"] = "typo"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, version, strict=True)


@pytest.mark.parametrize("path", JOBSETS, ids=name_of)
def test_the_door_understands_what_the_jobset_calls(path):
    [workers] = jobset(path)["spec"]["replicatedJobs"]
    job = workers["template"]["spec"]
    [container] = job["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "jaxrl.train"]
    config, arguments = understood(container["args"])
    [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "runs"]
    assert str(arguments.workdir).startswith(mount["mountPath"] + "/")
    # All pods run at once, each device has its share, and no group of environments is shared by two.
    devices = job["completions"] * next(iter(container["resources"]["limits"].values()))
    assert job["completions"] == job["parallelism"] and job["completionMode"] == "Indexed"
    assert config.ppo.num_envs % (64 * devices) == 0
    who = dict(word.split("=") for word in container["args"] if word.partition("=")[0] in WHO)
    if who:
        assert int(who["--num_processes"]) == job["completions"]
        assert who["--process_id"] == "$(JOB_COMPLETION_INDEX)"
        assert who["--coordinator"] == "ant-workers-0-0.ant:55000"  # NAME-JOB-REPLICA-POD.NAME
    # Statuses that would only come again.
    [rule] = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [2, 3]
    assert rule["onExitCodes"]["containerName"] == container["name"]


def test_the_guide_names_every_file():
    page = (ROOT / "docs" / "pods.md").read_text()
    assert sorted(re.findall(r"\]\(pods/([\w.]+)\)", page)) == sorted(path.name for path in PODS.iterdir())


def test_what_the_guide_says_of_groups_is_so():
    for num_envs, devices in ((4096, 64), (65_536, 256), (2_097_152, 256)):
        groups = minibatches.num_groups(num_envs, 1, 4)
        assert groups >= num_envs // 64 and groups % devices == 0
