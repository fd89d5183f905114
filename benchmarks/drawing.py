"""Pictures of what a benchmark has found: bars with the range of their turns, and curves."""

import math
import pathlib
import textwrap

import matplotlib
from matplotlib import figure as figures

OURS = "#1f6feb"
OTHERS = "#9aa4b2"
GROUND = "#d0d7de"  # what all are measured against


def draw(finished: dict, path: pathlib.Path) -> bool:
    """Draws all figures of a run, as `report.as_json` has them, below each other; False where all are empty."""
    drawn = [each for each in finished["figures"] if each.get("names") or each.get("series")]
    if not drawn:
        return False
    heights = [1.2 + 0.38 * len(each["names"]) if each["kind"] == "bars" else 4.0 for each in drawn]
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        picture = figures.Figure(figsize=(8, sum(heights) + 0.5), layout="constrained")
        axes = picture.subplots(len(drawn), 1, squeeze=False, height_ratios=heights)[:, 0]
        for ax, each in zip(axes, drawn, strict=True):
            {"bars": _bars, "curves": _curves}[each["kind"]](ax, each)
            ax.set_title(textwrap.fill(each["title"], 80), loc="left", fontsize=9)
        machine = finished["machine"]
        what = f"{machine['cores']} cores, {machine['accelerator'] or machine['cpu']}"
        load = machine["load_average_before"][0]
        picture.supxlabel(f"{what}; load {load:.1f} before; {(finished['commit'] or '')[:8]}", fontsize=7, color="0.4")
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.savefig(path, dpi=150)
    return True


def _bars(ax, bars):
    names, values = bars["names"], bars["values"]
    colors = [OURS if "jaxrl" in name else GROUND if name.startswith("physics") else OTHERS for name in names]
    below = [value - low for value, low in zip(values, bars["lows"], strict=True)]
    above = [high - value for value, high in zip(values, bars["highs"], strict=True)]
    shown = ax.barh(names, values, color=colors, xerr=[below, above], error_kw={"lw": 1, "ecolor": "0.25"})
    ax.bar_label(shown, [number(value) for value in values], padding=4)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlabel(bars["unit"])


def _curves(ax, curves):
    for name, points in curves["series"].items():
        dashed = "--" if name.startswith("physics") else "-"
        ax.plot(*zip(*points, strict=True), dashed, marker="o", ms=3, label=name)
    if curves["is_log"]:
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.0f}"))
    ax.grid(color="0.92")
    ax.set_xlabel(curves["x"])
    ax.set_ylabel(curves["y"])
    ax.legend(frameon=False)


def number(value: float) -> str:
    """Three digits, and thousands apart: 63,500, 0.352."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(digits, 0)}f}"
