"""One page that tells of a run: what was run, how it learned, how good it is, how it moves, and how to do it again.

The page is one file and needs no network. Nothing of the run can act in it: every text is escaped, and the page's
content security policy lets no script run but the viewer's, which it knows by its hash.
"""

import base64
import hashlib
import html
import io
import json
import re
import shlex
import tempfile
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxrl import envs
from jaxrl.host import config as configs
from jaxrl.host import curves, figures, keys, pictures, playing, policies, recording, run_folder
from jaxrl.host.figures import Panel
from jaxrl.types import ConfigError

TEMPLATE = Path(__file__).with_name("report.html")
EPISODES = 128
INK, LINE = "#010203", "#040506"  # stand for the page's own colours, which follow the reader's light or dark
LEARNING = (
    Panel("KL of an update", ("update/kl",), ("nats",)),
    Panel("entropy of the policy", ("loss/entropy",), ("nats",)),
    Panel("returns explained by the value", ("update/explained_variance",), ("explained variance",)),
    Panel("learning rate", ("update/learning_rate",), ("learning rate",)),
)
KINDS = {".gif": "image/gif", ".mp4": "video/mp4"}


def write(
    run: str | Path,
    out: Path,
    checkpoint: str = "latest",
    episodes: int = EPISODES,
    viewer: bool = True,
    video: bool = False,
    seed: int = 0,
) -> Path:
    """Writes the page.

    Args:
        run: the run folder.
        out: file to write.
        checkpoint: that plays, as `policies.load` takes it.
        episodes: that are played for the final evaluation; 0 takes the run's own last one.
        viewer: one episode in 3D, where the suite has bodies to draw.
        video: one episode as moving pictures: .mp4 with the extra [video], else .gif.
        seed: of what is played.

    Returns:
        `out`.

    Raises:
        ConfigError: there is no such run or checkpoint, it has no metrics, the video cannot be drawn, or the file
            cannot be written; the folder is looked at before anything is played.
    """
    run, out = Path(run), Path(out)
    if not out.absolute().parent.is_dir():
        raise keys.error(f"--out={out} cannot be: there is no folder {out.absolute().parent}; make it first")
    if episodes < 0:
        raise keys.error(f"--episodes={episodes} is out of range; choose 0 or more")
    text = page(run, checkpoint, episodes, viewer, video, seed)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as mistake:
        raise keys.error(f"--out={out} cannot be written: {mistake}") from None
    return out


def page(run: Path, checkpoint: str, episodes: int, viewer: bool, video: bool, seed: int) -> str:
    """The page, as HTML; arguments and errors as `write`'s."""
    config, told, measured = policies.config_of(run), run_folder.read_run(run), curves.read(run)
    title = f"{run.resolve().name}: {config.algorithm} on {config.env.suite}/{config.env.name}"
    shown, scripts = _motion(run, config, checkpoint, viewer, video, seed)
    evaluation = _played(run, checkpoint, episodes, seed) if episodes else _measured(measured.rows)
    parts = [
        _head(run, config, told, measured.rows),
        _section("Final evaluation", evaluation),
        _section("Curves", _curves(measured, figures.PANELS)),
        _section("How it moves", shown) if viewer or video else "",
        _section("How it learned", _curves(measured, LEARNING)),
        _section("What was run", _what(config, told)),
        _section("How to do it again", _again(told)),
        _section("Versions and devices", _versions(told)),
    ]
    content = {"title": html.escape(title), "scripts": " ".join(scripts) or "'none'", "body": "\n".join(parts)}
    # In one pass: what the run says cannot name a place of the template.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: content[place[1]], TEMPLATE.read_text(encoding="utf-8"))


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>\n{body}\n</section>"


def _numbers(pairs: dict[str, str]) -> str:
    cards = (
        f'<div class="card"><span class="quiet">{_text(k)}</span><b>{_text(v)}</b></div>' for k, v in pairs.items()
    )
    return f'<div class="numbers">{"".join(cards)}</div>'


def _table(head: list[str], rows: list[list[Any]]) -> str:
    """Every cell is escaped."""
    top = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="card"><table>{f"<tr>{top}</tr>" if head else ""}{body}</table></div>'


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _head(run: Path, config: ConfigDict, told: dict, rows: list[dict]) -> str:
    starts = len(told["starts"])
    speeds = sorted(row["speed/env_steps_per_second"] for row in rows if row.get("speed/env_steps_per_second"))
    numbers = {
        "env steps": f"{rows[-1]['env_steps']:,}",
        "of planned": f"{config.total_env_steps:,}",
        "wall time": f"{rows[-1]['wall_seconds']:,.0f} s",
        "env steps a second, median": f"{speeds[len(speeds) // 2]:,.0f}" if speeds else "not measured",
        "seed": str(config.seed),
    }
    what = f"{config.algorithm} on {config.env.suite}/{config.env.name}"
    begun = f"begun {told['time']}" + (f", started {starts} times" if starts > 1 else "")
    return (
        f'<h1>{_text(run.resolve().name)}</h1>\n<p class="quiet">{_text(what)}, {_text(begun)}</p>\n{_numbers(numbers)}'
    )


def _played(run: Path, checkpoint: str, episodes: int, seed: int) -> str:
    """Episodes that are played now."""
    played = playing.play(run, checkpoint, episodes, seed=seed)
    summary = playing.describe(played, seed)
    numbers = {
        "mean return": f"{summary['mean']:,.6g} ± {summary['std']:,.4g}",
        "IQM": f"{summary['iqm']:,.6g}",
        "its 95% interval": f"{summary['iqm_low']:,.6g} to {summary['iqm_high']:,.6g}",
        "worst and best": f"{summary['min']:,.6g} to {summary['max']:,.6g}",
        "mean length": f"{summary['length_mean']:,.6g} steps",
    }
    note = f"{episodes:,} deterministic episodes of the checkpoint after {played.env_steps:,} env steps, seed {seed}."
    if summary["cut_off"]:
        note += f" {summary['cut_off']} were cut off after {played.config.eval.max_steps:,} steps."
    return f'{_numbers(numbers)}\n<p class="quiet">{_text(note)} ± is the standard deviation over episodes.</p>'


def _measured(rows: list[dict]) -> str:
    """The last evaluation of the run itself."""
    found = [row for row in rows if row.get("eval/episode_return") is not None]
    if not found:
        return '<p class="card">The run has made no evaluation.</p>'
    last = found[-1]
    numbers = {
        "mean return": f"{last['eval/episode_return']:,.6g} ± {last.get('eval/episode_return_std', 0.0):,.4g}",
        "episodes": f"{last.get('eval/episodes', 0):,}",
        "after env steps": f"{last['env_steps']:,}",
    }
    return f'{_numbers(numbers)}\n<p class="quiet">The last evaluation of the run itself.</p>'


def _curves(run: curves.Run, panels: tuple[Panel, ...]) -> str:
    cards = (f'<figure class="card">{_svg(panel, run)}</figure>' for panel in panels)
    return f'<div class="curves">{"".join(cards)}</div>'


def _svg(panel: Panel, run: curves.Run) -> str:
    """A panel as an <svg> that takes its colours from the page."""
    import matplotlib
    from matplotlib.figure import Figure

    # Texts stay texts, in the reader's font; names within the picture are made of the title, and of no clock.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": panel.title, "font.family": "sans-serif"}):
        figure = Figure(figsize=(5.2, 3.2), layout="constrained", facecolor="none")
        axes = figure.subplots()
        axes.set_facecolor("none")
        figures.draw_panel(axes, panel, {"": [run]}, curves.View())
        axes.tick_params(colors=INK, grid_color=LINE)
        axes.spines[:].set_color(INK)
        legend = axes.get_legend()
        for text in (
            axes.title,
            axes.xaxis.label,
            axes.yaxis.label,
            *axes.texts,
            *(legend.get_texts() if legend else ()),
        ):
            text.set_color(INK)
        if legend:
            legend.set_frame_on(False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)  # a page needs none
    svg = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1
    )
    colours = {INK: "currentColor", LINE: "var(--line)", figures.COLOURS[0].lower(): "var(--curve)"}
    for colour, name in colours.items():
        svg = svg.replace(colour, name)
    return svg.replace("<svg", f'<svg role="img" aria-label="{_text(panel.title)}"', 1)


def _motion(
    run: Path, config: ConfigDict, checkpoint: str, viewer: bool, video: bool, seed: int
) -> tuple[str, list[str]]:
    """One episode as HTML, and the hashes of the scripts that it needs."""
    parts, scripts = [], []
    if viewer and (why := _no_bodies(config)):
        parts.append(f'<p class="card quiet">{_text(why)}.</p>')
    elif viewer:
        inside = pictures.show(run, checkpoint, sampled=False, seed=seed, height=0).html
        scripts = [_hash(script) for script in re.findall(r"<script>(.*?)</script>", inside, re.DOTALL)]
        parts.append(
            f'<iframe class="card" title="an episode in 3D" sandbox="allow-scripts" srcdoc="{_text(inside)}"></iframe>'
        )
    if video:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, f"episode{pictures.suffix()}")
            pictures.write(run, checkpoint, sampled=False, seed=seed, html=None, video=file)
            data = f"data:{KINDS[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"
        is_gif = file.suffix == ".gif"
        parts.append(f'<img class="card" alt="an episode" src="{data}">' if is_gif else
                     f'<video class="card" controls loop muted autoplay playsinline src="{data}"></video>')  # fmt: skip
    return "\n".join(parts), scripts


def _hash(script: str) -> str:
    """The source expression by which a content security policy knows a script, https://www.w3.org/TR/CSP3/."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"


def _what(config: ConfigDict, told: dict) -> str:
    defaults = configs.resolve({"algorithm": config.algorithm, "env": {"suite": config.env.suite}})
    changed = [[name, _value(value), _value(default)] for name, default, value in configs.difference(defaults, config)]
    whole = html.escape(json.dumps(config.to_dict(), indent=2))
    return (
        _table(["key", "this run", "default"], changed)
        + f'\n<details class="card"><summary>the whole config</summary><pre>{whole}</pre></details>'
    )


def _value(value: Any) -> str:
    return value if isinstance(value, str) and value else repr(value)


def _again(told: dict) -> str:
    """The commands that repeat the run, as its first start was typed."""
    versions = {
        name: version for name, version in told["versions"].items() if name not in ("python", "jaxrl") and version
    }
    lines = []
    if git := told.get("git"):
        lines.append(f"git checkout {git['commit']}" + ("  # files were changed since" if git["dirty"] else ""))
    lines.append("pip install -e . " + " ".join(f"{name}=={version}" for name, version in versions.items()))
    words = told["command_line"]
    lines.append(words if isinstance(words, str) else shlex.join(words))
    return f'<pre class="card">{_text(chr(10).join(lines))}</pre>'


def _versions(told: dict) -> str:
    """A row for each start of the run."""
    names = list(dict.fromkeys(name for start in told["starts"] for name in start["versions"]))
    rows = []
    for start in told["starts"]:
        devices, git = start.get("devices") or {}, start.get("git")
        commit = (git["commit"][:12] + (" and changes" if git["dirty"] else "")) if git else "not a checkout"
        versions = [start["versions"].get(name) or "from source" for name in names]
        rows.append([start["time"], f"{devices.get('count', '?')} × {devices.get('kind', '?')}", commit, *versions])
    return _table(["started", "devices", "git commit", *names], rows)


def _no_bodies(config: ConfigDict) -> str:
    """Why the environment cannot be shown in 3D; '' if it can."""
    recording.choose_renderer()  # before anything imports MuJoCo
    try:
        envs.scene(config.env)
    except ConfigError as error:
        return str(error).partition(";")[0]
    return ""
