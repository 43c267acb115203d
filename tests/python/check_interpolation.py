#!/usr/bin/env python3
"""Checks RoboCache's resampling of an RLDS dataset against numpy, independently.

usage: check_interpolation.py RLDS_DIR LEROBOT_DIR --source-frequency HZ --target-frequency HZ
                              [--split NAME] [--tolerance F]

Parses the TFRecord files itself, interpolates steps/observation/state of each episode
linearly in float64 from the source rate onto the target grid k / target, for all k with
k / target <= (T - 1) / source, and compares with column observation.state of the dataset.
Needs numpy and pyarrow only (the environment of requirements-lerobot.txt has both).
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

STATE_KEY = "steps/observation/state"
STEP_KEY = "steps/is_first"


def tfrecords(path: Path) -> Iterator[bytes]:
    """The payloads of a TFRecord file: u64 length, u32 crc, data, u32 crc."""
    data = path.read_bytes()
    offset = 0
    while offset < len(data):
        (length,) = struct.unpack_from("<Q", data, offset)
        start = offset + 12
        if start + length + 4 > len(data):
            raise ValueError(f"{path.name} is cut at offset {offset}")
        yield data[start:start + length]
        offset = start + length + 4


def varint(data: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """(field number, wire type, value) of one protobuf message."""
    offset = 0
    while offset < len(data):
        key, offset = varint(data, offset)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, offset = varint(data, offset)
            yield number, wire_type, value
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
            yield number, wire_type, data[offset:offset + size]
            offset += size
        elif wire_type == 2:
            size, offset = varint(data, offset)
            yield number, wire_type, data[offset:offset + size]
            offset += size
        else:
            raise ValueError(f"protobuf wire type {wire_type}")


def message_field(data: bytes, wanted: int) -> bytes:
    # A map entry or a oneof may leave an empty field out.
    return next((value for number, wire_type, value in fields(data)
                 if number == wanted and wire_type == 2), b"")


def example_features(record: bytes) -> dict[str, bytes]:
    """Feature messages by key of a tf.train.Example: Example.features.feature{key, value}."""
    entries = (value for number, _, value in fields(message_field(record, 1)) if number == 1)
    return {message_field(entry, 1).decode(): message_field(entry, 2) for entry in entries}


def float_list(feature: bytes) -> np.ndarray:
    chunks = [value for number, _, value in fields(message_field(feature, 2)) if number == 1]
    return np.frombuffer(b"".join(chunks), dtype="<f4")


def int64_count(feature: bytes) -> int:
    count = 0
    for _, wire_type, value in fields(message_field(feature, 3)):
        if wire_type == 0:
            count += 1
        else:  # packed: each varint has exactly one byte without the continuation bit
            count += sum(byte < 0x80 for byte in value)
    return count


def source_episodes(folder: Path, split: str | None) -> Iterator[np.ndarray]:
    """observation.state [T, D] of each episode, in the order of the splits and their shards."""
    info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    for entry in info["splits"]:
        if split is not None and entry["name"] != split:
            continue
        for path in sorted(folder.glob(f"{info['name']}-{entry['name']}.tfrecord-*")):
            for record in tfrecords(path):
                features = example_features(record)
                steps = int64_count(features[STEP_KEY])
                yield float_list(features[STATE_KEY]).reshape(steps, -1)


def resample(state: np.ndarray, source_hz: Fraction, target_hz: Fraction) -> np.ndarray:
    steps = len(state)
    # Exact: in floating point the last grid point could fall just outside the episode.
    rows = int((steps - 1) * target_hz / source_hz) + 1
    target_s = np.arange(rows, dtype=np.float64) / float(target_hz)
    source_s = np.arange(steps, dtype=np.float64) / float(source_hz)
    columns = state.astype(np.float64).T
    return np.stack([np.interp(target_s, source_s, column) for column in columns], axis=1)


def output_episodes(folder: Path) -> list[np.ndarray]:
    """observation.state [rows, D] of each episode of the LeRobot dataset."""
    pieces: dict[int, list[np.ndarray]] = {}
    for path in sorted((folder / "data").glob("**/*.parquet")):
        table = pq.read_table(path, columns=["episode_index", "observation.state"])
        episodes = table["episode_index"].to_numpy()
        state = np.asarray(table["observation.state"].to_pylist(), dtype=np.float64)
        for episode in np.unique(episodes):
            pieces.setdefault(int(episode), []).append(state[episodes == episode])
    return [np.concatenate(pieces[episode]) for episode in sorted(pieces)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rlds", type=Path)
    parser.add_argument("lerobot", type=Path)
    parser.add_argument("--source-frequency", type=Fraction, required=True, metavar="HZ")
    parser.add_argument("--target-frequency", type=Fraction, required=True, metavar="HZ")
    parser.add_argument("--split", help="compare this split only (default: all, in order)")
    parser.add_argument("--tolerance", type=float, default=1e-5, metavar="F")
    arguments = parser.parse_args()

    expected = [resample(state, arguments.source_frequency, arguments.target_frequency)
                for state in source_episodes(arguments.rlds, arguments.split)]
    actual = output_episodes(arguments.lerobot)
    if not expected:
        print(f"no episodes in {arguments.rlds}", file=sys.stderr)
        return 1
    if len(expected) != len(actual):
        print(f"{len(actual)} episodes, expected {len(expected)}", file=sys.stderr)
        return 1
    error_max = 0.0
    for episode, (want, got) in enumerate(zip(expected, actual, strict=True)):
        if want.shape != got.shape:
            print(f"episode {episode}: shape {got.shape}, expected {want.shape}", file=sys.stderr)
            return 1
        error = np.abs(want - got)
        # The comparison is written so that a NaN fails it.
        if not (error <= arguments.tolerance).all():
            row, column = np.unravel_index(np.nanargmax(error), error.shape)
            print(f"episode {episode}, row {row}, dimension {column}: {got[row, column]!r}, "
                  f"expected {want[row, column]!r}", file=sys.stderr)
            return 1
        error_max = max(error_max, float(error.max()))
    rows = sum(len(want) for want in expected)
    print(f"episodes {len(expected)}, rows {rows}, max abs error {error_max:.3e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
