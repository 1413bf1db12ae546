"""Blocks about corruptions, damaged input, kills and more workers."""

from blocks.common import Results, number, origin, table

SEVERAL = "A call resumes earlier ones; the command below is that of the last."


def robustness(results: Results) -> str:
    """AP kept under corruptions, and the corruption with the highest firing rate, for every detector."""
    r, *others = (results[f"robustness{which}"] for which in ("", "_control", "_small"))
    models = r["models"] | {name: model for other in others for name, model in other["models"].items()}
    names = list(next(iter(models.values()))["corruptions"])
    rows = [("clean AP", "", *(number(m["clean"]["ap"]) for m in models.values()))]
    for name in names:
        unit = next(iter(models.values()))["corruptions"][name]["unit"]
        kept = [m["corruptions"][name]["mean_retention"] for m in models.values()]
        rows.append((name.replace("_", " "), unit, *map(_share, kept)))
    rows.append(("all", "", *(_share(m["mean_retention"]) for m in models.values())))
    worlds = next(iter(models.values())).get("worlds", {})
    for name in worlds:
        shown = name.replace("threshold_", "thresholds times ")
        rows.append((f"simulated: {shown}, AP", "", *(number(m["worlds"][name]["ap"]) for m in models.values())))
    active = []
    for label, m in models.items():
        worst = m["most_active"]
        active.append(
            f"`{label}` spikes most under {worst['corruption'].replace('_', ' ')}, severity {worst['severity']}: "
            f"{worst['firing_rate']:.1%} instead of {m['clean']['firing_rate']:.1%}"
        )
    header = ("AP kept, mean of the severities", "unit", *(f"`{label}`" for label in models))
    return (
        f"![AP kept and firing rate over the severity](images/robustness.png)\n\n{table(header, rows, words=2)}\n\n"
        f"Simulated roads, split `{r['split']}`. {'; '.join(active)}. {' '.join(map(origin, [r, *others]))}"
    )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def fuzz(results: Results) -> str:
    """Inputs fed to every reader."""
    r = results["fuzz"]
    rows = [
        (
            f"`{name}`",
            "failed" if t["failed"] else f"{t['inputs']:,}",
            f"{t['engines'].get('atheris', 0):,}",
            f"{t['refused']:,}",
            number(t["seconds"] / 60, 1),
            t["commit"][:7],
        )
        for name, t in r["targets"].items()
    ]
    header = ("target", "inputs", "of them guided by coverage", "refused", "minutes", "commit")
    return f"{table(header, rows)}\n\n{SEVERAL} {origin(r)}"


def kill_test(results: Results) -> str:
    """Kills survived."""
    r = results["kill_test"]
    rows = [
        (name, j["kills"], len(j["damaged_files"]), j["trials"], len(j["trials_with_another_result"]))
        for name, j in r["jobs"].items()
    ]
    header = ("job", "kills", "damaged files", "runs brought to their end", "of them with another result")
    return f"{table(header, rows)}\n\n{SEVERAL} {origin(r)}"


def scaling(results: Results) -> str:
    """Workers, and what whole data sets take by the model."""
    r = results["scaling"]
    rows = [
        (run["workers"], f"{run['index_s']:.1f}", f"{run['score_s']:.1f}", f"{run['peak_memory_of_a_worker_mb']:.0f}")
        for run in r["runs"]
    ]
    modelled = ", ".join(f"{name} {known['worker_hours']:.0f}" for name, known in r["data_sets"].items())
    return (
        f"{table(('workers', 'index, s', 'score, s', 'peak memory of a worker, MB'), rows)}\n\n"
        f"{r['recordings']} recordings, {r['windows']} windows, `{r['model']}`. By the model, not measured, scoring "
        f"whole data sets takes these worker hours: {modelled}. {origin(r)}"
    )


def worker_memory(results: Results) -> str:
    """What a worker holds, by length of the recording."""
    r = results["worker_memory"]
    height, width = r["size_hw"]
    rows = [
        (f"{row['seconds']:g}", *(f"{row[key]:.0f}" for key in ("megabytes", "private_mb", "resident_mb")))
        for row in r["recordings"]
    ]
    header = ("seconds", "recording, MB", "private memory at most, MB", "resident at most, MB")
    return (
        f"{table(header, rows, words=0)}\n\nRandom events, {r['rate_mev_s']:g} Mev/s on {width} x {height}, "
        f"`{r['model']}`, batch {r['batch_size']}. What is resident beyond the private memory is mostly the mapped "
        f"recording, which the system takes back when it needs room. {origin(r)}"
    )
