#!/usr/bin/env python3
"""Checks the values of resampled fixtures against the formulas they were recorded from.

usage: check_values.py CASE OUTPUT

OUTPUT is a LeRobot dataset of 50 Hz made without a map; CASE is one of those below.  See
tests/fixtures/README.md for what the fixtures hold.  Needs numpy and pyarrow.

A value between two samples h seconds apart differs from the sine sin(w t) that was sampled
by at most h^2 w^2 / 8 if the two are joined by a line, and by at most h w if the earlier
one is held.  Where samples are joined by lines, the lines themselves are checked too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MS = 1_000_000
STEP_NS = 20 * MS
FLOAT32 = 1e-6
JOINTS = ["shoulder", "elbow", "wrist"]


def require(condition: bool, message: str) -> None:
    if not condition:
        raise SystemExit(f"check_values: {message}")


class Output:
    """The columns of a dataset, and the instants of its rows."""

    def __init__(self, folder: Path, start_ms: int) -> None:
        files = sorted((folder / "data").glob("**/*.parquet"))
        self.table = pa.concat_tables([pq.read_table(path) for path in files])
        self.info = json.loads((folder / "meta" / "info.json").read_text(encoding="utf-8"))
        self.times_ns = start_ms * MS + STEP_NS * self.table["frame_index"].to_numpy()

    def values(self, name: str) -> np.ndarray:
        values = np.asarray(self.table[name].to_pylist(), dtype=np.float64)
        return values.reshape(len(self.table), -1)

    def texts(self, name: str) -> list[str]:
        return self.table[name].to_pylist()

    def names(self, name: str) -> list[str]:
        names = self.info["features"][name]["names"]
        return names if isinstance(names, list) else next(iter(names.values()))


def near(name: str, found: np.ndarray, expected: np.ndarray, tolerance: np.ndarray | float) -> None:
    require(found.shape == expected.shape, f"{name}: shape {found.shape}, not {expected.shape}")
    error = np.abs(found - expected)
    # Written so that a NaN fails it.
    bad = np.argwhere(~(error <= tolerance))
    if len(bad):
        row, component = bad[0]
        raise SystemExit(f"check_values: {name}, row {row}, component {component}: "
                         f"{found[row, component]!r}, expected {expected[row, component]!r}")


def sines(times_ns: np.ndarray, count: int = 3) -> np.ndarray:
    return np.sin(np.outer(times_ns / 1e9, np.arange(1, count + 1)))


def lines(sample: Callable[[np.ndarray], np.ndarray], samples_ns: np.ndarray,
          times_ns: np.ndarray) -> np.ndarray:
    """What lines between the samples give, in float64."""
    return np.stack([np.interp(times_ns, samples_ns, column) for column in sample(samples_ns).T],
                    axis=1)


def check_joints(output: Output, period_ms: int, duration_ms: int) -> None:
    samples_ns = np.arange(0, duration_ms, period_ms) * MS
    found = output.values("joint_states.position")
    omega = np.arange(1, 4)
    bound = (period_ms / 1000) ** 2 * omega**2 / 8
    near("position", found, sines(output.times_ns), bound + FLOAT32)
    near("position", found, lines(sines, samples_ns, output.times_ns), FLOAT32)
    velocity = lines(lambda times: np.cos(sines(times)), samples_ns, output.times_ns)
    near("velocity", output.values("joint_states.velocity"), velocity, FLOAT32)
    require(output.names("joint_states.position") == JOINTS, "the joints' names are lost")


def check_pose(output: Output, period_ms: int, duration_ms: int) -> None:
    def position(times_ns: np.ndarray) -> np.ndarray:
        # The message was built for 3 ms before its stamp plus 3 ms: exactly its stamp.
        time_s = times_ns / 1e9
        return np.stack([0.3 + 0.1 * time_s, np.full_like(time_s, 0.2), np.sin(time_s)], axis=1)

    samples_ns = np.arange(3, duration_ms, period_ms) * MS
    found = output.values("ee_pose.pose.position")
    near("pose", found, lines(position, samples_ns, output.times_ns), FLOAT32)
    bound = np.array([0, 0, (period_ms / 1000) ** 2 / 8])
    near("pose", found, position(output.times_ns), bound + FLOAT32)
    # It turns about z at constant speed, which slerp reproduces and a line would not.
    half = output.times_ns / 2e9
    turned = np.stack([0 * half, 0 * half, np.sin(half), np.cos(half)], axis=1)
    near("orientation", output.values("ee_pose.pose.orientation"), turned, FLOAT32)


def compression(folder: Path) -> None:
    output = Output(folder, start_ms=3)
    check_joints(output, period_ms=20, duration_ms=2000)
    check_pose(output, period_ms=40, duration_ms=2000)


def split_bag(folder: Path) -> None:
    output = Output(folder, start_ms=3)
    check_joints(output, period_ms=40, duration_ms=3000)
    check_pose(output, period_ms=100, duration_ms=3000)


def joints_only(folder: Path) -> None:
    check_joints(Output(folder, start_ms=0), period_ms=40, duration_ms=2000)


def causal(folder: Path) -> None:
    """split_bag, with the latest sample everywhere."""
    output = Output(folder, start_ms=3)
    held_ns = output.times_ns // (40 * MS) * (40 * MS)
    found = output.values("joint_states.position")
    near("position", found, sines(held_ns), FLOAT32)
    near("position", found, sines(output.times_ns), 0.04 * np.arange(1, 4) + FLOAT32)
    held_ns = (output.times_ns - 3 * MS) // (100 * MS) * (100 * MS) + 3 * MS
    half = held_ns / 2e9
    turned = np.stack([0 * half, 0 * half, np.sin(half), np.cos(half)], axis=1)
    near("orientation", output.values("ee_pose.pose.orientation"), turned, FLOAT32)


def latched(folder: Path) -> None:
    output = Output(folder, start_ms=0)
    check_joints(output, period_ms=40, duration_ms=2000)
    rows = len(output.table)
    require(output.texts("robot_description.data") == ['<robot name="demo"/>'] * rows,
            "the latched description does not hold throughout")
    near("static pose", output.values("static_pose.pose.position"),
         np.tile([0.3, 0.2, 0.0], (rows, 1)), FLOAT32)
    near("static pose", output.values("static_pose.pose.orientation"),
         np.tile([0.0, 0.0, 0.0, 1.0], (rows, 1)), FLOAT32)
    require(not output.values("gap_mask").any(), "what is latched is masked as a gap")


def json_messages(folder: Path) -> None:
    output = Output(folder, start_ms=0)
    samples_ns = np.arange(0, 2000, 40) * MS
    joints = lines(lambda times: sines(times).round(6), samples_ns, output.times_ns)
    near("joints", output.values("status.arm.joints"), joints, FLOAT32)
    width = lines(lambda times: (0.08 - 0.04 * times[:, None] / 1e9).round(4), samples_ns,
                  output.times_ns)
    near("width", output.values("status.arm.gripper.width"), width, FLOAT32)
    count = output.times_ns // (40 * MS)
    near("count", output.values("status.count"), count[:, None].astype(float), 0)
    near("closed", output.values("status.arm.gripper.closed"), (count >= 25)[:, None].astype(float), 0)
    require(output.texts("status.mode") == ["move" if number % 10 else "hold" for number in count],
            "mode is not the latest text")


def joint_names_change(folder: Path) -> None:
    """Arm messages list the same joints in two orders: values go by name."""
    output = Output(folder, start_ms=20)
    arm, fingers = "joint_states.position", "joint_states#2.position"
    order = [JOINTS.index(name) for name in output.names(arm)]
    samples_ns = np.arange(0, 2000, 40) * MS
    expected = lines(sines, samples_ns, output.times_ns)[:, order]
    near("arm", output.values(arm), expected, FLOAT32)
    sign = [{"finger_left": 1, "finger_right": -1}[name] for name in output.names(fingers)]
    near("fingers", output.values(fingers),
         0.02 * np.outer(output.times_ns / 1e9, sign), FLOAT32)


def transforms(folder: Path) -> None:
    """Each frame's transform, whichever stream it came in; its x is the time times a speed."""
    output = Output(folder, start_ms=40)
    time_s = output.times_ns / 1e9
    speeds = {"arm": 1, "hand": 2, "cube": 3}
    seen = set()
    for column in output.table.column_names:
        child = next((child for child in speeds if f"[{child}]" in column), None)
        if child is None or not column.endswith(".translation"):
            continue
        seen.add(child)
        expected = np.stack([speeds[child] * time_s, np.full_like(time_s, len(child)),
                             np.full_like(time_s, 0.5)], axis=1)
        near(column, output.values(column), expected, FLOAT32)
        half = speeds[child] * time_s / 2
        turned = np.stack([0 * half, 0 * half, np.sin(half), np.cos(half)], axis=1)
        near(column, output.values(column.replace("translation", "rotation")), turned, FLOAT32)
    require(seen == set(speeds), f"only {sorted(seen)} are there")
    near("camera", output.values("tf_static.transforms[camera].transform.translation"),
         np.tile([0.0, 6.0, 0.5], (len(time_s), 1)), FLOAT32)


def gap(folder: Path) -> None:
    """reach_001: /joint_states is silent from 1.945 s to 2.173 s after the first row."""
    output = Output(folder, start_ms=0)
    masked = np.flatnonzero(output.values("gap_mask"))
    require(masked.tolist() == list(range(98, 109)), f"masked rows are {masked.tolist()}")
    position = output.values("joint_states.position")
    require(np.isfinite(position).all(), "masked rows hold no numbers")
    # Not bridged: the last sample before the silence is held through it.
    require(bool((position[98:109] == position[98]).all()), "the gap was bridged")
    require(bool((position[97] != position[98]).any() and (position[109] != position[108]).any()),
            "more than the gap was held")


CASES: dict[str, Callable[[Path], None]] = {
    "compression": compression, "split_bag": split_bag, "joints_only": joints_only,
    "causal": causal, "latched": latched, "json": json_messages,
    "joint_names_change": joint_names_change, "tf": transforms, "gap": gap,
}


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] not in CASES:
        raise SystemExit(f"{__doc__}\ncases: {', '.join(CASES)}")
    CASES[sys.argv[1]](Path(sys.argv[2]))
    print("as recorded")


if __name__ == "__main__":
    main()
