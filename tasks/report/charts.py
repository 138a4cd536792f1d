"""The charts of the build report: accuracy against latency and size, latency distributions, and the README picture."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from tasks.metrics import CORRELATIONS, TITLES, metrics_of
from tasks.report.theme import LIGHT, follow_scheme, is_number, measure, milliseconds, size, times

Role = Literal["teacher", "candidate", "floor", "step"]

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "retort",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "text.parse_math": False,
}
LARGEST_AREA_PT2 = 700.0
SMALLEST_AREA_PT2 = 30.0
MOST_POINTS = 400  # of a distribution; more only make the page larger
OFFSETS = ((0, 1), (1, 0), (-1, 0), (0, -1), (1, 0.6), (-1, 0.6), (1, -0.6), (-1, -0.6), (0, 1.6), (0, -1.6))
"""Where a label may stand, in units of the mark's half width and half height."""
PANELS = (
    ("size_bytes", "model size", size),
    ("latency_ms_p50", "median latency of one sentence", milliseconds),
)
"""Key of the scores, title and number format of the picture's bar charts, before that of the metric."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One model in the chart of a metric against latency."""

    name: str
    role: Role
    metric: str
    """Name of what judges the task."""
    value: float
    interval: tuple[float, float]
    latency_ms: float
    size_bytes: float

    @property
    def label(self) -> str:
        """Name and size, as written beside the mark."""
        return f"{self.name}, {size(self.size_bytes)}"


def marks_of(summary: Mapping[str, Any]) -> list[Mark]:
    """The measured models of a build summary; a step that is the teacher or candidate itself is not repeated."""
    scores = summary.get("scores", {})
    roles: tuple[Role, ...] = ("teacher", "candidate", "floor")
    found = [_mark(role, role, scores[role]) for role in roles if role in scores]
    found += [_mark(step_name(step), "step", step) for step in summary.get("steps", ())]
    marks: list[Mark] = []
    for mark in found:
        if mark is not None and not any(_same_point(mark, other) for other in marks):
            marks.append(mark)
    return marks


def step_name(step: Mapping[str, Any]) -> str:
    """The step's name; the chain begins with the teacher as PyTorch runs it."""
    name = str(step.get("name", "step"))
    return "teacher in PyTorch" if name == "teacher" else name


def _mark(name: str, role: Role, values: Mapping[str, Any]) -> Mark | None:
    """None where metric, latency or size was not measured."""
    judged, _ = metrics_of(values)
    measured = [values.get(key) for key in (judged, "latency_ms_p50", "size_bytes")]
    if not all(is_number(value) for value in measured):
        return None
    value, latency_ms, size_bytes = (float(value) for value in measured if value is not None)
    low, high = values.get(f"{judged}_interval") or (value, value)
    return Mark(
        name=name,
        role=role,
        metric=judged,
        value=value,
        interval=(float(low), float(high)),
        latency_ms=latency_ms,
        size_bytes=size_bytes,
    )


def _same_point(first: Mark, second: Mark) -> bool:
    return (first.value, first.latency_ms, first.size_bytes) == (second.value, second.latency_ms, second.size_bytes)


def tradeoff_figure(marks: Sequence[Mark]) -> Figure:
    """The metric with its interval against latency (log), the mark's area the model's size."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.7), layout="constrained")
        draw_tradeoff(figure.add_subplot(), marks)
    return figure


def pareto_front(marks: Sequence[Mark]) -> list[Mark]:
    """The models that no other beats in both metric and latency, fastest first."""
    front: list[Mark] = []
    for mark in sorted(marks, key=lambda mark: (mark.latency_ms, -mark.value)):
        if not front or mark.value > front[-1].value:
            front.append(mark)
    return front


def draw_tradeoff(axes: Axes, marks: Sequence[Mark]) -> None:
    """The chart of `tradeoff_figure` into given axes."""
    front = pareto_front(marks)
    axes.plot([mark.latency_ms for mark in front], [mark.value for mark in front], color=LIGHT["step"], linewidth=1)
    largest = max((mark.size_bytes for mark in marks), default=1.0) or 1.0
    areas = [max(SMALLEST_AREA_PT2, LARGEST_AREA_PT2 * mark.size_bytes / largest) for mark in marks]
    for mark, area in zip(marks, areas, strict=True):
        colour = LIGHT[mark.role]
        axes.vlines(mark.latency_ms, *mark.interval, colors=colour, linewidths=1.4, alpha=0.9)
        axes.scatter(mark.latency_ms, mark.value, s=area, color=colour, alpha=0.35, linewidths=0)
        axes.scatter(mark.latency_ms, mark.value, s=14, color=colour, linewidths=0)
    axes.set_xscale("log")
    axes.margins(x=0.2, y=0.16)
    axes.grid(True)
    axes.minorticks_off()
    axes.set_xticks(_log_ticks([mark.latency_ms for mark in marks]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    metric = marks[0].metric if marks else "accuracy"
    scale, unit = (1, "") if metric in CORRELATIONS else (100, " %")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * scale:g}{unit}"))
    axes.set_xlabel("median latency of one sentence, ms (log)")
    axes.set_ylabel(f"test {TITLES[metric]}, 95 % interval")
    _place_labels(axes, marks, areas)


def search_figure(trials: Sequence[Mapping[str, Any]], chosen: int) -> Figure:
    """Trained points of a search, fastest first: accuracy against latency, the front joined, the chosen one ringed."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for trial in trials:
            colour = LIGHT["candidate" if trial["number"] == chosen else "step"]
            axes.scatter(trial["latency_ms"], trial["accuracy"], s=18 + 4 * trial["size_mb"], color=colour, alpha=0.6)
            axes.annotate(
                str(trial["number"]), (trial["latency_ms"], trial["accuracy"]), (4, 4), textcoords="offset points"
            )
            if trial["number"] == chosen:
                axes.scatter(trial["latency_ms"], trial["accuracy"], s=220, facecolors="none", edgecolors=colour)
        front = [trial for trial in trials if trial["on_front"]]
        axes.plot([t["latency_ms"] for t in front], [t["accuracy"] for t in front], color=LIGHT["step"], linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
        axes.margins(x=0.2, y=0.2)
        axes.grid(True)
        axes.set_xlabel("median latency of one sentence, ms")
        axes.set_ylabel("validation accuracy")
    return figure


def _log_ticks(values: Sequence[float]) -> list[float]:
    """1-2-5 ticks around positive values."""
    low, high = min(values, default=1.0) / 2, max(values, default=1.0) * 2
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    return [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]


def _place_labels(axes: Axes, marks: Sequence[Mark], areas: Sequence[float]) -> None:
    """Put each label where it covers least of the marks and of the labels before it, the important ones first."""
    canvas: Any = FigureCanvasAgg(axes.get_figure(root=True))
    canvas.draw()
    renderer = canvas.renderer
    taken = [_mark_box(axes, mark, area) for mark, area in zip(marks, areas, strict=True)]
    order = sorted(range(len(marks)), key=lambda at: ("candidate", "teacher", "floor", "step").index(marks[at].role))
    for at in order:
        right = float(np.sqrt(areas[at] / np.pi)) + 4
        above = taken[at].height / 2 * 72 / canvas.figure.dpi + 3
        options = [_write_label(axes, marks[at], dx * right, dy * above) for dx, dy in OFFSETS]
        boxes = [text.get_window_extent(renderer) for text in options]
        costs = [_cost(box, taken, axes.get_window_extent().padded(-4)) for box in boxes]
        best = int(np.argmin(costs))
        for other, text in enumerate(options):
            if other != best:
                text.remove()
        taken.append(boxes[best])


def _write_label(axes: Axes, mark: Mark, dx_pt: float, dy_pt: float) -> Annotation:
    is_step = mark.role == "step"
    text = axes.annotate(
        mark.label,
        (mark.latency_ms, mark.value),
        xytext=(dx_pt, dy_pt),
        textcoords="offset points",
        ha="center" if dx_pt == 0 else "left" if dx_pt > 0 else "right",
        va="center" if dy_pt == 0 else "bottom" if dy_pt > 0 else "top",
        color=LIGHT["muted" if is_step else "ink"],
        fontsize="small" if is_step else "medium",
        fontweight="bold" if mark.role == "candidate" else "normal",
    )
    text.set_in_layout(False)
    return text


def _cost(box: Bbox, taken: Sequence[Bbox], frame: Bbox) -> float:
    """Pixels of `box` that are covered already, those outside the frame counted fourfold."""
    outside = box.width * box.height - _overlap(box, frame)
    return sum(_overlap(box, other) for other in taken) + 4 * float(outside)


def _mark_box(axes: Axes, mark: Mark, area_pt2: float) -> Bbox:
    """The mark's interval and core in pixels; the rim of a disc may be written on, so 0.7 of its radius counts."""
    x, low = axes.transData.transform((mark.latency_ms, mark.interval[0]))
    _, high = axes.transData.transform((mark.latency_ms, mark.interval[1]))
    half = float(np.sqrt(area_pt2 / np.pi)) * 0.7
    return Bbox.from_extents(x - half, min(low, high), x + half, max(low, high))


def _overlap(first: Bbox, second: Bbox) -> float:
    common = Bbox.intersection(first, second)
    return 0.0 if common is None else float(common.width * common.height)


def latency_figure(latency_ms: Mapping[str, Sequence[float]]) -> Figure:
    """Share of the sentences answered within a time, for each model that was timed."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.7), layout="constrained")
        axes = figure.add_subplot()
        for name, values in latency_ms.items():
            _draw_distribution(axes, name, np.sort(np.asarray(values, dtype=float)))
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(_log_ticks([value for values in latency_ms.values() for value in values]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylim(0, 1.02)
        figure.legend(loc="outside upper left", frameon=False, fontsize=9)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.0f} %"))
        axes.grid(True)
        axes.set_xlabel("latency of one sentence, ms (log)")
        axes.set_ylabel("share answered within")
    return figure


def _draw_distribution(axes: Axes, name: str, sorted_ms: Any) -> None:
    colour = LIGHT[name] if name in ("teacher", "candidate", "floor") else LIGHT["step"]
    if len(sorted_ms) > MOST_POINTS:
        sorted_ms = np.quantile(sorted_ms, np.linspace(0, 1, MOST_POINTS))
    share = np.arange(1, len(sorted_ms) + 1) / len(sorted_ms)
    p50, p95 = (float(value) for value in np.quantile(sorted_ms, (0.5, 0.95)))
    label = f"{name}: p50 {milliseconds(p50)}, p95 {milliseconds(p95)}"
    axes.step(sorted_ms, share, where="post", color=colour, linewidth=1.8, label=label)
    axes.plot((p50, p95), (0.5, 0.95), "o", color=colour, markersize=4.5)


def picture_figure(summary: Mapping[str, Any]) -> Figure:
    """1200 x 600 pixels: the trade-off chart, and the teacher's and candidate's size, latency and metric as bars."""
    with matplotlib.rc_context(STYLE | {"font.size": 11}):
        figure = Figure(
            figsize=(12, 6), dpi=100, layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.12), facecolor=LIGHT["paper"]
        )
        figure.suptitle(headline(summary), fontsize=15, fontweight="bold", x=0.015, ha="left")
        grid = figure.add_gridspec(1, 2, width_ratios=(1.7, 1), wspace=0.06)
        judged, _ = metrics_of(summary.get("scores", {}).get("candidate", {}))
        panels = (*PANELS, (judged, f"test {TITLES[judged]}", partial(measure, judged)))
        bars = grid[1].subgridspec(len(panels), 1, hspace=0.12)
        for row, (key, title, show) in enumerate(panels):
            _draw_bars(figure.add_subplot(bars[row]), summary, key, title, show)
        draw_tradeoff(figure.add_subplot(grid[0]), marks_of(summary))
    return figure


def headline(summary: Mapping[str, Any]) -> str:
    """`banking77: 12x smaller, 17x faster, accuracy 92.4 % (teacher 92.8 %)`."""
    scores = summary.get("scores", {})
    teacher, candidate = scores.get("teacher", {}), scores.get("candidate", {})
    parts = [
        f"{times(ratio(teacher.get(key), candidate.get(key)))} {word}"
        for key, word in (("size_bytes", "smaller"), ("latency_ms_p50", "faster"))
        if ratio(teacher.get(key), candidate.get(key)) is not None
    ]
    judged, _ = metrics_of(candidate)
    values = (measure(judged, found.get(judged)) for found in (candidate, teacher))
    parts.append(f"{TITLES[judged]} {' (teacher '.join(values)})")
    return f"{summary.get('name', 'model')}: {', '.join(parts)}"


def ratio(numerator: Any, denominator: Any) -> float | None:
    """Their quotient, or None where either was not measured."""
    if not (is_number(numerator) and is_number(denominator)) or denominator == 0:
        return None
    return float(numerator / denominator)


def _draw_bars(axes: Axes, summary: Mapping[str, Any], key: str, title: str, show: Any) -> None:
    scores = summary.get("scores", {})
    names = [name for name in ("floor", "candidate", "teacher") if is_number(scores.get(name, {}).get(key))]
    values = [scores[name][key] for name in names]
    axes.barh(names, values, color=[LIGHT[name] for name in names], height=0.62)
    for at, value in enumerate(values):
        axes.annotate(show(value), (value, at), xytext=(5, 0), textcoords="offset points", va="center", fontsize=10.5)
    axes.set_title(title, loc="left", fontsize=11, color=LIGHT["muted"])
    axes.set_xlim(0, max(values, default=1) * 1.28)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def inline(figure: Figure, prefix: str) -> Markup:
    """The drawing as `svg` writes it, safe to put into a page: its texts are escaped by the drawing library."""
    return Markup(svg(figure, prefix))  # noqa: S704


def svg(figure: Figure, prefix: str) -> str:
    """Inline SVG that takes its colours and font from the page; `prefix` keeps its ids apart from other drawings'."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True)
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", drawing)
    drawing = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawing, count=1)
    drawing = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", drawing, count=1)
    drawing = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{prefix}-", drawing)
    return follow_scheme(drawing)
