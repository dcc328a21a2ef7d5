"""Paired differences as a figure: every seed a dot, the mean with its 95% confidence interval."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from benchmarks.effect.summary import Pairs, interval


def differences(groups: Mapping[tuple[str, str], Pairs], column: str = "miou_oracle") -> Figure:
    """A row for each variant but the baseline, a panel for each stage.

    Args:
        groups: of each stage and variant, its results beside those of the baseline.
        column: figure whose difference to the baseline is drawn.
    """
    stages = list(dict.fromkeys(stage for stage, name in groups if name != "baseline"))
    names = list(dict.fromkeys(name for _, name in groups if name != "baseline"))
    figure = Figure((1.6 + 2.6 * len(stages), 0.9 + 0.27 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(stages), sharex=True, sharey=True, squeeze=False)[0]
    for axes, stage in zip(panels, stages, strict=True):
        axes.axvline(0, color="0.6", linewidth=0.8)
        for row, name in enumerate(names):
            pairs = groups.get((stage, name), [])
            values = [own[column] - base[column] for own, base in pairs]
            if not values:
                continue
            axes.plot(values, [row] * len(values), ".", color="0.6", markersize=4, zorder=3)
            mean = sum(values) / len(values)
            axes.errorbar(mean, row, xerr=interval(values), fmt="o", color="C0", markersize=4, capsize=2)
        axes.set_title(stage.upper(), fontsize=9)
        axes.set_xlabel("points of mIoU", fontsize=8)
        axes.tick_params(labelsize=8)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    return figure
