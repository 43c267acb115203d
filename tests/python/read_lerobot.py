#!/usr/bin/env python3
"""Opens a LeRobot v3.0 dataset with the real lerobot package and checks all of it.

usage: read_lerobot.py DATASET [--delta-timestamps JSON] [--items all|N]
                       [--quantile-tolerance F] [--out FILE.json|FILE.npz] [--dump FILE.npz]

Every item is read by LeRobotDataset.__getitem__, as a training loop would read it, and
compared with the metadata.  On success one JSON document goes to stdout and the exit
status is 0; at the first violation a message goes to stderr and the exit status is 1.

The environment is made by `venv.sh lerobot requirements-lerobot.txt`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

# Set before the imports, which read them.  The cache that `datasets` makes of each
# dataset is keyed by path and time, so a kept one could answer for another run's files.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
_CACHE = tempfile.TemporaryDirectory(prefix="read-lerobot-")
os.environ["HF_HOME"] = _CACHE.name

import numpy as np  # noqa: E402
import torch  # noqa: E402
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402

STATISTICS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
# lerobot's own columns are described by no sensor, so a gap leaves none of their rows out.
INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
GAP_MASK = "gap_mask"
TIMESTAMP_TOLERANCE_S = 1e-6
STATISTICS_RTOL = 1e-4


class Violation(Exception):
    """The dataset contradicts itself or what lerobot promises of a dataset."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise Violation(message)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--delta-timestamps", type=json.loads, metavar="JSON",
                        help='such as {"action": [-0.1, 0.0, 0.1]}')
    parser.add_argument("--items", default="all", metavar="all|N",
                        help="read only N items, evenly spread (default: all)")
    parser.add_argument("--quantile-tolerance", type=float, default=0.01, metavar="F",
                        help="allowed error of a quantile, as a part of the feature's range "
                             "(default: 0.01)")
    parser.add_argument("--out", type=Path, metavar="FILE",
                        help="write the report (.json) or the columns (.npz) there too")
    parser.add_argument("--dump", type=Path, metavar="FILE.npz",
                        help="write all numeric columns, stacked")
    return parser.parse_args()


def item_numbers(selection: str, rows: int) -> list[int]:
    if selection == "all":
        return list(range(rows))
    wanted = min(int(selection), rows)
    return sorted({round(i) for i in np.linspace(0, rows - 1, wanted)})


def check_episodes(dataset: LeRobotDataset) -> list[dict[str, Any]]:
    """The episodes follow one another without a hole and cover every row."""
    episodes = [dict(row) for row in dataset.meta.episodes]
    require(len(episodes) == dataset.meta.total_episodes,
            f"info.json has {dataset.meta.total_episodes} episodes, meta/episodes {len(episodes)}")
    known_tasks = set(dataset.meta.tasks.index)
    next_row = 0
    for number, episode in enumerate(episodes):
        name = f"episode {number}"
        require(episode["episode_index"] == number,
                f"{name}: its row in meta/episodes has episode_index {episode['episode_index']}")
        start, end = episode["dataset_from_index"], episode["dataset_to_index"]
        require(start == next_row, f"{name}: dataset_from_index {start}, expected {next_row}")
        require(end - start == episode["length"],
                f"{name}: rows {start}..{end} but length {episode['length']}")
        require(end > start, f"{name} is empty")
        require(len(episode["tasks"]) > 0, f"{name} has no task")
        for task in episode["tasks"]:
            require(task in known_tasks, f"{name}: task {task!r} is not in meta/tasks.parquet")
        path = dataset.root / dataset.meta.get_data_file_path(number)
        require(path.is_file(), f"{name}: its data file {path.name} does not exist")
        next_row = end
    require(next_row == dataset.meta.total_frames,
            f"the episodes have {next_row} rows, info.json {dataset.meta.total_frames}")
    require(next_row == len(dataset.hf_dataset),
            f"the episodes have {next_row} rows, the data files {len(dataset.hf_dataset)}")
    return episodes


def check_tasks(dataset: LeRobotDataset) -> None:
    tasks = dataset.meta.tasks
    require(list(tasks["task_index"]) == list(range(len(tasks))),
            "meta/tasks.parquet: row i does not have task_index i")
    require(all(isinstance(task, str) for task in tasks.index),
            "meta/tasks.parquet: its pandas index is not the task strings")
    require(dataset.meta.total_tasks == len(tasks),
            f"info.json has {dataset.meta.total_tasks} tasks, meta/tasks.parquet {len(tasks)}")


def check_value(name: str, feature: dict[str, Any], value: Any, where: str) -> None:
    """One value of one item has the declared shape; an image is RGB in [0, 1]."""
    if feature["dtype"] == "string":
        require(isinstance(value, str), f"{where}: {name} is {type(value).__name__}, not a string")
        return
    require(isinstance(value, torch.Tensor), f"{where}: {name} is {type(value).__name__}")
    shape = tuple(value.shape)
    if feature["dtype"] in ("image", "video"):
        height, width, channels = feature["shape"]
        require(shape == (channels, height, width),
                f"{where}: {name} decodes to {shape}, declared {(channels, height, width)}")
        require(value.is_floating_point(), f"{where}: {name} decodes to {value.dtype}")
        low, high = float(value.min()), float(value.max())
        require(0.0 <= low and high <= 1.0, f"{where}: {name} has pixels in [{low}, {high}]")
        return
    declared = () if tuple(feature["shape"]) == (1,) else tuple(feature["shape"])
    require(shape == declared, f"{where}: {name} has shape {shape}, declared {declared}")
    kind = np.dtype(feature["dtype"]).kind
    require({"f": value.is_floating_point(), "b": value.dtype == torch.bool}
            .get(kind, not value.is_floating_point() and value.dtype != torch.bool),
            f"{where}: {name} is {value.dtype}, declared {feature['dtype']}")


def check_item(dataset: LeRobotDataset, number: int, item: dict[str, Any],
               episodes: list[dict[str, Any]]) -> None:
    where = f"item {number}"
    require(int(item["index"]) == number, f"{where}: index is {int(item['index'])}")
    episode_index = int(item["episode_index"])
    require(0 <= episode_index < len(episodes), f"{where}: episode_index {episode_index}")
    episode = episodes[episode_index]
    start, end = episode["dataset_from_index"], episode["dataset_to_index"]
    require(start <= number < end, f"{where}: is outside the rows {start}..{end} of its episode")
    frame_index = int(item["frame_index"])
    require(frame_index == number - start,
            f"{where}: frame_index {frame_index}, expected {number - start}")
    # The column is float32: what it can hold of frame_index / fps is what is compared.
    expected_s = float(np.float32(frame_index / dataset.fps))
    require(abs(float(item["timestamp"]) - expected_s) <= TIMESTAMP_TOLERANCE_S,
            f"{where}: timestamp {float(item['timestamp'])!r}, expected {expected_s!r}")
    require(item["task"] in episode["tasks"],
            f"{where}: task {item['task']!r} is not among its episode's tasks {episode['tasks']}")
    for name, feature in dataset.features.items():
        require(name in item, f"{where}: {name} is missing")
        if dataset.delta_indices is None or name not in dataset.delta_indices:
            check_value(name, feature, item[name], where)


def check_window(dataset: LeRobotDataset, number: int, item: dict[str, Any],
                 plain: LeRobotDataset, episodes: list[dict[str, Any]]) -> None:
    """Each delta gives the neighbour row of the same episode, clamped and marked at its ends."""
    episode = episodes[int(item["episode_index"])]
    start, end = episode["dataset_from_index"], episode["dataset_to_index"]
    for name, deltas in dataset.delta_indices.items():
        rows = [number + delta for delta in deltas]
        padded = [row < start or row >= end for row in rows]
        require(item[f"{name}_is_pad"].tolist() == padded,
                f"item {number}: {name}_is_pad is {item[f'{name}_is_pad'].tolist()}, "
                f"expected {padded}")
        require(item[name].shape[0] == len(deltas),
                f"item {number}: {name} has {item[name].shape[0]} rows for {len(deltas)} deltas")
        for position, row in enumerate(rows):
            neighbour = plain[min(max(row, start), end - 1)][name]
            require(torch.equal(torch.nan_to_num(item[name][position]),
                                torch.nan_to_num(neighbour)),
                    f"item {number}: {name} at delta {deltas[position]} is not row {row}")


def stacked_columns(dataset: LeRobotDataset) -> dict[str, np.ndarray]:
    """All numeric columns at their stored width (items would narrow float64 to float32)."""
    table = dataset.hf_dataset.with_format("arrow")[:]
    columns = {}
    for name, feature in dataset.features.items():
        if feature["dtype"] in ("image", "video", "string"):
            continue
        values = np.asarray(table[name].to_pylist(), dtype=feature["dtype"])
        columns[name] = values.reshape(len(table), *feature["shape"])
    return columns


def check_statistics(dataset: LeRobotDataset, columns: dict[str, np.ndarray],
                     quantile_tolerance: float) -> int:
    """meta.stats is complete, well shaped, and right for the float features; returns how many."""
    statistics = dataset.meta.stats
    require(statistics is not None, "meta/stats.json does not exist")
    recorded = np.ones(len(dataset.hf_dataset), dtype=bool)
    if GAP_MASK in columns:
        recorded = ~columns[GAP_MASK].reshape(-1)
    compared = 0
    for name, feature in dataset.features.items():
        if feature["dtype"] == "string":
            continue
        require(name in statistics, f"meta/stats.json lacks {name}")
        found = statistics[name]
        is_image = feature["dtype"] in ("image", "video")
        # lerobot reduces a matrix over all but its last dimension.
        shape = (feature["shape"][2], 1, 1) if is_image else tuple(feature["shape"][-1:])
        for key in STATISTICS:
            require(key in found, f"meta/stats.json: {name} lacks {key}")
            expected_shape = (1,) if key == "count" else shape
            require(found[key].shape == expected_shape,
                    f"meta/stats.json: {name}/{key} has shape {found[key].shape}, "
                    f"expected {expected_shape}")
        if is_image or np.dtype(feature["dtype"]).kind != "f":
            continue
        rows = columns[name] if name in INDEX_COLUMNS else columns[name][recorded]
        rows = rows.astype(np.float64).reshape(-1, shape[0])
        compare_statistics(name, rows, found, quantile_tolerance)
        compared += 1
    return compared


def compare_statistics(name: str, rows: np.ndarray, found: dict[str, np.ndarray],
                       quantile_tolerance: float) -> None:
    if len(rows) == 0 or not np.isfinite(rows).all():
        return
    spread = rows.max(axis=0) - rows.min(axis=0)
    # A mean close to zero is judged on the scale of the values, not on its own.
    scale = np.maximum(np.abs(rows).max(axis=0), 1e-12)
    exact = {"min": rows.min(axis=0), "max": rows.max(axis=0),
             "mean": rows.mean(axis=0), "std": rows.std(axis=0)}
    for key, expected in exact.items():
        error = np.abs(found[key] - expected)
        require(bool((error <= STATISTICS_RTOL * scale).all()),
                f"meta/stats.json: {name}/{key} is {found[key].tolist()}, "
                f"the rows give {expected.tolist()}")
    for key, quantile in QUANTILES.items():
        # Between two neighbouring samples any value is a fair quantile.
        low = np.quantile(rows, quantile, axis=0, method="lower")
        high = np.quantile(rows, quantile, axis=0, method="higher")
        slack = quantile_tolerance * spread + 1e-6 * scale + 1e-9
        require(bool(((found[key] >= low - slack) & (found[key] <= high + slack)).all()),
                f"meta/stats.json: {name}/{key} is {found[key].tolist()}, the rows give "
                f"{low.tolist()} to {high.tolist()}")


def describe(value: Any) -> Any:
    """A short JSON form of one value of an item."""
    if isinstance(value, torch.Tensor):
        if value.numel() <= 32:
            return value.tolist()
        return {"shape": list(value.shape), "mean": float(value.float().mean())}
    return value


def check(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    root = arguments.dataset
    require((root / "meta" / "info.json").is_file(), f"{root} has no meta/info.json")
    plain = LeRobotDataset("local/test", root=root)
    dataset = plain
    if arguments.delta_timestamps is not None:
        dataset = LeRobotDataset("local/test", root=root,
                                 delta_timestamps=arguments.delta_timestamps)
    check_tasks(dataset)
    episodes = check_episodes(dataset)
    numbers = item_numbers(arguments.items, len(dataset))
    first_item: dict[str, Any] = {}
    for number in numbers:
        item = dataset[number]
        check_item(dataset, number, item, episodes)
        if dataset.delta_indices is not None:
            check_window(dataset, number, item, plain, episodes)
        if number == 0:
            first_item = {name: describe(value) for name, value in item.items()}
    columns = stacked_columns(dataset)
    compared = check_statistics(dataset, columns, arguments.quantile_tolerance)
    report = {
        "num_episodes": dataset.num_episodes,
        "num_frames": dataset.num_frames,
        "fps": dataset.fps,
        "robot_type": dataset.meta.info.get("robot_type"),
        "features": {name: {"dtype": feature["dtype"], "shape": list(feature["shape"])}
                     for name, feature in dataset.features.items()},
        "tasks": list(dataset.meta.tasks.index),
        "episodes": [{key: episode[key] for key in ("episode_index", "length", "tasks")}
                     for episode in episodes],
        "first_item": first_item,
        "checks": {
            "items_read": len(numbers),
            "images_decoded": len(numbers) * len(dataset.meta.camera_keys),
            "windows_checked": len(numbers) * len(arguments.delta_timestamps or {}),
            "statistics_compared": compared,
        },
    }
    return report, columns


def main() -> int:
    arguments = parse_arguments()
    logging.disable(logging.WARNING)
    try:
        report, columns = check(arguments)
    except Exception as error:  # lerobot raises many kinds; each means "not readable"
        kind = "" if isinstance(error, Violation) else f"{type(error).__name__}: "
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        print(f"read_lerobot: {arguments.dataset}: {kind}{error}{cause}", file=sys.stderr)
        return 1
    document = json.dumps(report, indent=2, ensure_ascii=False)
    print(document)
    if arguments.out is not None and arguments.out.suffix == ".npz":
        np.savez(arguments.out, **columns)
    elif arguments.out is not None:
        arguments.out.write_text(document + "\n", encoding="utf-8")
    if arguments.dump is not None:
        np.savez(arguments.dump, **columns)
    return 0


if __name__ == "__main__":
    sys.exit(main())
