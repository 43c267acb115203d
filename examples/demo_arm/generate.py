#!/usr/bin/env python3
"""Records the demo dataset: a simulated seven-joint arm reaching for cubes, as rosbag2 folders.

usage: generate.py [OUTPUT]          (default: data, beside this file)

Physics and pictures come from MuJoCo, the bags from `rosbags`.  Every stream has a clock
of its own, as on a robot: different rates, jitter, latency, lost messages, and one gap.
The same seeds give the same bytes.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read when mujoco is imported; osmesa renders without a display or a GPU.
os.environ.setdefault("MUJOCO_GL", "osmesa")

import mujoco  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from rosbags.interfaces import (  # noqa: E402
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer  # noqa: E402
from rosbags.typesys import Stores, get_typestore  # noqa: E402

TIMESTEP_S = 0.001
JOINTS = [f"panda_joint{number}" for number in range(1, 8)]
HOME = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])
CUBES = {"red": (0.50, 0.18, 0.025), "blue": (0.48, -0.20, 0.025)}
# A gripper that points straight down: half a turn about the x axis (w, x, y, z).
POINT_DOWN = np.array([0.0, 1.0, 0.0, 0.0])
IMAGE_SIZE = (160, 120)
# An absolute encoder of 20 bits per turn.
ENCODER_STEP = 2 * np.pi / 2**20
GAP_S = 0.220

STORE = get_typestore(Stores.ROS2_HUMBLE)


@dataclass(frozen=True)
class Episode:
    name: str
    cube: str
    duration_s: float
    # Start of the hole in /joint_states, or None.
    gap_start_s: float | None
    start_ns: int


EPISODES = [
    Episode("reach_000", "red", 4.2, None, 1_760_000_000_137_000_000),
    Episode("reach_001", "red", 5.0, 2.1, 1_760_000_061_420_000_000),
    Episode("reach_002", "blue", 4.6, None, 1_760_000_125_803_000_000),
    Episode("reach_003", "blue", 5.4, None, 1_760_000_190_059_000_000),
]


@dataclass(frozen=True)
class Record:
    """One message: when the recorder got it, and what it says."""

    log_ns: int
    topic: str
    message: Any


def arm_xml() -> str:
    """The scene.  Link offsets are the published Denavit-Hartenberg ones of the Panda arm."""
    # (position, quaternion w x y z, end of the drawn capsule) of each link in its parent.
    links = [
        ("0 0 0.333", "1 0 0 0", "0 0 -0.18"),
        ("0 0 0", "1 -1 0 0", "0 -0.2 0"),
        ("0 -0.316 0", "1 1 0 0", "0.0825 0 0"),
        ("0.0825 0 0", "1 1 0 0", "-0.0825 0.1 0"),
        ("-0.0825 0.384 0", "1 -1 0 0", "0 0 -0.2"),
        ("0 0 0", "1 1 0 0", "0.088 0 0"),
        ("0.088 0 0", "1 1 0 0", "0 0 0.08"),
    ]
    body, tail = "", ""
    for number, (position, quaternion, end) in enumerate(links, start=1):
        body += (f'<body name="link{number}" pos="{position}" quat="{quaternion}" gravcomp="1">'
                 f'<joint name="panda_joint{number}" axis="0 0 1" range="-3 3" armature="0.1" '
                 f'damping="1"/><geom type="capsule" fromto="0 0 0 {end}" size="0.045" '
                 f'mass="1.5" material="link" contype="0" conaffinity="0"/>')
        tail += "</body>"
    hand = '''
      <body name="hand" pos="0 0 0.107" quat="0.9238795 0 0 -0.3826834" gravcomp="1">
        <geom type="box" size="0.03 0.09 0.02" pos="0 0 0.02" mass="0.5" material="hand"/>
        <site name="tip" pos="0 0 0.103" size="0.005" rgba="0 0 0 0"/>
        <body name="left" gravcomp="1">
          <joint name="left" type="slide" axis="0 1 0" range="0 0.04" damping="5"/>
          <geom type="box" size="0.01 0.008 0.035" pos="0 0.008 0.075" mass="0.05"
                material="hand"/>
        </body>
        <body name="right" gravcomp="1">
          <joint name="right" type="slide" axis="0 -1 0" range="0 0.04" damping="5"/>
          <geom type="box" size="0.01 0.008 0.035" pos="0 -0.008 0.075" mass="0.05"
                material="hand"/>
        </body>
      </body>'''
    cubes = "".join(
        f'<geom name="{name}" type="box" size="0.025 0.025 0.025" '
        f'pos="{" ".join(map(str, position))}" material="{name}" contype="0" conaffinity="0"/>'
        for name, position in CUBES.items())
    motors = "".join(f'<position joint="{joint}" kp="900" kv="60"/>' for joint in JOINTS)
    return f'''
<mujoco>
  <compiler angle="radian"/>
  <option timestep="{TIMESTEP_S}"/>
  <visual><global offwidth="{IMAGE_SIZE[0]}" offheight="{IMAGE_SIZE[1]}"/></visual>
  <default><geom contype="0" conaffinity="0"/></default>
  <asset>
    <texture type="skybox" builtin="gradient" rgb1="0.75 0.8 0.85" rgb2="0.4 0.45 0.5"
             width="64" height="384"/>
    <material name="table" rgba="0.62 0.55 0.45 1"/>
    <material name="link" rgba="0.9 0.9 0.92 1"/>
    <material name="hand" rgba="0.2 0.2 0.22 1"/>
    <material name="red" rgba="0.85 0.1 0.1 1"/>
    <material name="blue" rgba="0.1 0.25 0.85 1"/>
  </asset>
  <worldbody>
    <light pos="0.8 -0.6 2" dir="-0.3 0.3 -1"/>
    <camera name="front" pos="1.55 0 0.95" xyaxes="0 1 0 -0.44 0 0.9"/>
    <geom type="box" size="0.6 0.7 0.02" pos="0.35 0 -0.02" material="table"/>
    {cubes}{body}{hand}{tail}
  </worldbody>
  <actuator>{motors}
    <position joint="left" kp="100"/><position joint="right" kp="100"/>
  </actuator>
</mujoco>'''


def inverse_kinematics(model: mujoco.MjModel, start: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Joint angles that bring the tip to `target`, pointing down (damped least squares)."""
    data = mujoco.MjData(model)
    tip = model.site("tip").id
    joints = start.copy()
    jacobian = np.zeros((6, model.nv))
    quaternion, turn = np.zeros(4), np.zeros(3)
    for _ in range(300):
        data.qpos[:7] = joints
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mju_mat2Quat(quaternion, data.site_xmat[tip])
        inverse = quaternion * [1, -1, -1, -1]
        difference = np.zeros(4)
        mujoco.mju_mulQuat(difference, POINT_DOWN, inverse)
        mujoco.mju_quat2Vel(turn, difference, 1.0)
        error = np.concatenate([target - data.site_xpos[tip], 0.5 * turn])
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], tip)
        arm = jacobian[:, :7]
        joints += 0.3 * arm.T @ np.linalg.solve(arm @ arm.T + 1e-4 * np.eye(6), error)
    return joints


def minimum_jerk(phase: float) -> float:
    phase = min(max(phase, 0.0), 1.0)
    return phase**3 * (10 - 15 * phase + 6 * phase**2)


def planned_motion(model: mujoco.MjModel, episode: Episode,
                   random: np.random.Generator) -> Callable[[float], np.ndarray]:
    """Joint targets over time: rest, go above the cube, go down to it, rest."""
    start = HOME + random.normal(0.0, 0.06, 7)
    cube = np.array(CUBES[episode.cube])
    above = inverse_kinematics(model, start, cube + [0.0, 0.0, 0.16])
    at_cube = inverse_kinematics(model, above, cube + [0.0, 0.0, 0.01])
    leave_s, arrive_s, touch_s = (part * episode.duration_s for part in (0.08, 0.52, 0.80))

    def target(time_s: float) -> np.ndarray:
        if time_s < arrive_s:
            phase = minimum_jerk((time_s - leave_s) / (arrive_s - leave_s))
            return start + phase * (above - start)
        phase = minimum_jerk((time_s - arrive_s) / (touch_s - arrive_s))
        return above + phase * (at_cube - above)

    return target


class Clock:
    """Sampling times of one driver: its rate, the jitter of its period, its latency."""

    def __init__(self, random: np.random.Generator, rate_hz: float, jitter: float,
                 latency_s: tuple[float, float]) -> None:
        self.random = random
        self.period_s = 1.0 / rate_hz
        self.jitter = jitter
        self.latency_s = latency_s
        self.next_s = random.uniform(0.0, self.period_s)

    def due(self, now_s: float) -> bool:
        if now_s < self.next_s:
            return False
        self.next_s += self.period_s * max(0.2, self.random.normal(1.0, self.jitter))
        return True

    def latency_ns(self) -> int:
        return int(self.random.uniform(*self.latency_s) * 1e9)


def header(stamp_ns: int, frame: str) -> Any:
    time = STORE.types["builtin_interfaces/msg/Time"](
        sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return STORE.types["std_msgs/msg/Header"](stamp=time, frame_id=frame)


def joint_state(stamp_ns: int, position: np.ndarray, velocity: np.ndarray,
                effort: np.ndarray) -> Any:
    return STORE.types["sensor_msgs/msg/JointState"](
        header=header(stamp_ns, "panda_link0"), name=JOINTS,
        position=position, velocity=velocity, effort=effort)


def pose_stamped(stamp_ns: int, position: np.ndarray, quaternion_wxyz: np.ndarray) -> Any:
    point = STORE.types["geometry_msgs/msg/Point"](*map(float, position))
    w, x, y, z = map(float, quaternion_wxyz)
    pose = STORE.types["geometry_msgs/msg/Pose"](
        position=point, orientation=STORE.types["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w))
    return STORE.types["geometry_msgs/msg/PoseStamped"](
        header=header(stamp_ns, "panda_link0"), pose=pose)


def jpeg(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


def record(model: mujoco.MjModel, renderer: mujoco.Renderer, episode: Episode,
           random: np.random.Generator) -> Iterator[Record]:
    """Simulates one episode and yields what its drivers publish, in simulation order."""
    target = planned_motion(model, episode, random)
    data = mujoco.MjData(model)
    data.qpos[:7] = target(0.0)
    data.qpos[7:9] = 0.04
    tip = data.site("tip")
    clocks = {
        "/joint_states": Clock(random, 200.0, 0.06, (0.0002, 0.0009)),
        "/ee_pose": Clock(random, 100.0, 0.12, (0.0005, 0.0020)),
        "/arm_command": Clock(random, 15.0, 0.04, (0.0003, 0.0010)),
        "/gripper/closed": Clock(random, 5.0, 0.05, (0.0010, 0.0040)),
        "/camera/front/compressed": Clock(random, 10.0, 0.05, (0.0150, 0.0300)),
    }
    close_s = 0.84 * episode.duration_s
    quaternion = np.zeros(4)
    # Published once, when the task node starts; latched for whoever subscribes later.
    yield Record(episode.start_ns - 250_000_000, "/task",
                 STORE.types["std_msgs/msg/String"](data=f"reach the {episode.cube} cube"))
    data.ctrl[:7] = target(0.0)
    data.ctrl[7:9] = 0.04
    while data.time < episode.duration_s:
        mujoco.mj_step(model, data)
        now_s = data.time
        due = [topic for topic, clock in clocks.items() if clock.due(now_s)]
        for topic in due:
            # A driver wakes up within its own scheduling delay of the physics step.
            stamp_ns = episode.start_ns + int((now_s + random.uniform(0.0, 0.0003)) * 1e9)
            log_ns = stamp_ns + clocks[topic].latency_ns()
            if topic == "/joint_states":
                start_s = episode.gap_start_s
                if start_s is not None and start_s < now_s < start_s + GAP_S:
                    continue
                position = np.round(data.qpos[:7] / ENCODER_STEP) * ENCODER_STEP
                yield Record(log_ns, topic, joint_state(
                    stamp_ns, position, data.qvel[:7].astype(np.float32).astype(np.float64),
                    data.qfrc_actuator[:7].astype(np.float32).astype(np.float64)))
            elif topic == "/ee_pose":
                if random.random() < 0.03:
                    continue
                mujoco.mju_mat2Quat(quaternion, tip.xmat)
                # q and -q are the same rotation; drivers emit either.
                sign = -1.0 if random.random() < 0.2 else 1.0
                yield Record(log_ns, topic, pose_stamped(stamp_ns, tip.xpos, sign * quaternion))
            elif topic == "/arm_command":
                data.ctrl[:7] = target(now_s)
                yield Record(log_ns, topic, joint_state(
                    stamp_ns, data.ctrl[:7].copy(), np.zeros(0), np.zeros(0)))
            elif topic == "/gripper/closed":
                closed = now_s >= close_s
                data.ctrl[7:9] = 0.0 if closed else 0.04
                yield Record(log_ns, topic, STORE.types["std_msgs/msg/Bool"](data=closed))
            else:
                renderer.update_scene(data, camera="front")
                yield Record(log_ns, topic, STORE.types["sensor_msgs/msg/CompressedImage"](
                    header=header(stamp_ns, "camera_front"), format="jpeg",
                    data=jpeg(renderer.render())))


def qos(durability: QosDurability) -> Qos:
    unbounded = QosTime(9223372036, 854775807)
    return Qos(QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, durability, unbounded, unbounded,
               QosLiveliness.AUTOMATIC, unbounded, avoid_ros_namespace_conventions=False)


def write_bag(folder: Path, records: list[Record]) -> None:
    """One rosbag2 folder; a recorder writes in the order in which messages reach it."""
    writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with writer:
        connections = {}
        for item in sorted(records, key=lambda item: (item.log_ns, item.topic)):
            kind = item.message.__msgtype__
            if item.topic not in connections:
                latched = item.topic == "/task"
                durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
                connections[item.topic] = writer.add_connection(
                    item.topic, kind, typestore=STORE, offered_qos_profiles=[qos(durability)])
            writer.write(connections[item.topic], item.log_ns,
                         STORE.serialize_cdr(item.message, kind))


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data"
    model = mujoco.MjModel.from_xml_string(arm_xml())
    print(f"{'episode':<10} {'topic':<26} {'messages':>8} {'rate (Hz)':>10}")
    with mujoco.Renderer(model, IMAGE_SIZE[1], IMAGE_SIZE[0]) as renderer:
        for number, episode in enumerate(EPISODES):
            records = list(record(model, renderer, episode, np.random.default_rng(number)))
            folder = output / episode.name
            shutil.rmtree(folder, ignore_errors=True)
            write_bag(folder, records)
            for topic in sorted({item.topic for item in records}):
                count = sum(item.topic == topic for item in records)
                rate = f"{count / episode.duration_s:10.1f}" if count > 1 else f"{'latched':>10}"
                print(f"{episode.name:<10} {topic:<26} {count:>8} {rate}")
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"{len(EPISODES)} episodes, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
