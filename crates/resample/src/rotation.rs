//! Rotations: every notation to a unit quaternion and back, and the arc between two.
//!
//! Quaternions here are `[w, x, y, z]`. Sine, cosine and arctangent come from `libm`, whose results do not depend on the
//! machine; square roots are exact by IEEE 754.

use crate::Rotation;

/// A unit quaternion, scalar first.
pub(crate) type Quaternion = [f64; 4];

/// How far a recorded unit quaternion's squared norm may be from 1 and still be taken as it is: a few `f32` roundings.
const UNIT_TOLERANCE: f64 = 1e-6;

/// Shorter than this is no direction at all.
const MIN_NORM: f64 = 1e-6;

/// Reads one rotation; `None` if its components describe none (zero length, parallel columns, not finite).
pub(crate) fn decode(kind: Rotation, row: &[f64]) -> Option<Quaternion> {
    if row.iter().any(|v| !v.is_finite()) {
        return None;
    }
    match kind {
        Rotation::QuaternionWxyz => unit([row[0], row[1], row[2], row[3]]),
        Rotation::QuaternionXyzw => unit([row[3], row[0], row[1], row[2]]),
        Rotation::RotationVector => unit(from_rotation_vector([row[0], row[1], row[2]])),
        Rotation::Rpy => unit(from_rpy(row[0], row[1], row[2])),
        Rotation::SixD => from_columns([row[0], row[1], row[2]], [row[3], row[4], row[5]]),
    }
}

/// Writes `q` into `out`, among equivalent notations the one nearest to `near` (the recorded row before it), so that a
/// signal does not jump where the rotation does not.
pub(crate) fn encode(kind: Rotation, q: Quaternion, near: &[f64], out: &mut [f64]) {
    match kind {
        Rotation::QuaternionWxyz => out.copy_from_slice(&q),
        Rotation::QuaternionXyzw => out.copy_from_slice(&[q[1], q[2], q[3], q[0]]),
        Rotation::RotationVector => out.copy_from_slice(&to_rotation_vector(q, near)),
        Rotation::Rpy => out.copy_from_slice(&to_rpy(q, near)),
        Rotation::SixD => {
            let (a, b) = to_columns(q);
            out[..3].copy_from_slice(&a);
            out[3..].copy_from_slice(&b);
        }
    }
}

/// The same rotation on the same half of the sphere as `reference`.
pub(crate) fn align(q: Quaternion, reference: Quaternion) -> Quaternion {
    if dot(q, reference) < 0.0 { q.map(|v| -v) } else { q }
}

/// The rotation a fraction `w` of the way along the shorter arc from `a` to `b`, which are aligned.
pub(crate) fn slerp(a: Quaternion, b: Quaternion, w: f64) -> Quaternion {
    // The half-angle from chord and sum keeps full precision where the arc cosine of the dot product has none.
    let chord = norm(std::array::from_fn(|i| b[i] - a[i]));
    let sum = norm(std::array::from_fn(|i| b[i] + a[i]));
    let angle = 2.0 * libm::atan2(chord, sum);
    let (wa, wb) = if angle < 1e-7 {
        (1.0 - w, w)
    } else {
        let scale = 1.0 / libm::sin(angle);
        (libm::sin((1.0 - w) * angle) * scale, libm::sin(w * angle) * scale)
    };
    let mixed: Quaternion = std::array::from_fn(|i| wa * a[i] + wb * b[i]);
    let length = norm(mixed);
    mixed.map(|v| v / length)
}

fn dot(a: Quaternion, b: Quaternion) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]
}

fn norm(q: Quaternion) -> f64 {
    dot(q, q).sqrt()
}

fn unit(q: Quaternion) -> Option<Quaternion> {
    let squared = dot(q, q);
    if (squared - 1.0).abs() <= UNIT_TOLERANCE {
        return Some(q);
    }
    let length = squared.sqrt();
    (length > MIN_NORM && length.is_finite()).then(|| q.map(|v| v / length))
}

fn from_rotation_vector(v: [f64; 3]) -> Quaternion {
    let angle = (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt();
    // sin(angle / 2) / angle, by its series where the division loses precision.
    let scale = if angle < 1e-4 { 0.5 - angle * angle / 48.0 } else { libm::sin(angle / 2.0) / angle };
    [libm::cos(angle / 2.0), v[0] * scale, v[1] * scale, v[2] * scale]
}

fn to_rotation_vector(q: Quaternion, near: &[f64]) -> [f64; 3] {
    let q = if q[0] < 0.0 { q.map(|v| -v) } else { q };
    let sine = (q[1] * q[1] + q[2] * q[2] + q[3] * q[3]).sqrt();
    if sine < 1e-12 {
        return [2.0 * q[1], 2.0 * q[2], 2.0 * q[3]];
    }
    let angle = 2.0 * libm::atan2(sine, q[0]);
    let axis = [q[1] / sine, q[2] / sine, q[3] / sine];
    // The same rotation is any angle + 2πn about the axis: n = -1 is the antipodal twin a driver may have written.
    let along = near[0] * axis[0] + near[1] * axis[1] + near[2] * axis[2];
    let turns = ((along - angle) / std::f64::consts::TAU).round();
    axis.map(|v| v * (angle + turns * std::f64::consts::TAU))
}

fn from_rpy(roll: f64, pitch: f64, yaw: f64) -> Quaternion {
    let (sr, cr) = libm::sincos(roll / 2.0);
    let (sp, cp) = libm::sincos(pitch / 2.0);
    let (sy, cy) = libm::sincos(yaw / 2.0);
    [
        cr * cp * cy + sr * sp * sy,
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
    ]
}

fn to_rpy(q: Quaternion, near: &[f64]) -> [f64; 3] {
    let [w, x, y, z] = q;
    let roll = libm::atan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y));
    let pitch = libm::asin((2.0 * (w * y - z * x)).clamp(-1.0, 1.0));
    let yaw = libm::atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z));
    let half_turn = std::f64::consts::PI;
    let unwound = |candidate: [f64; 3]| -> ([f64; 3], f64) {
        let mut distance = 0.0;
        let mut out = candidate;
        for (angle, &reference) in out.iter_mut().zip(near) {
            *angle += ((reference - *angle) / std::f64::consts::TAU).round() * std::f64::consts::TAU;
            distance += (*angle - reference).abs();
        }
        (out, distance)
    };
    // Every rotation has two sets of angles; take the one that continues the recorded signal.
    let (first, first_distance) = unwound([roll, pitch, yaw]);
    let (second, second_distance) = unwound([roll + half_turn, half_turn - pitch, yaw + half_turn]);
    if second_distance < first_distance { second } else { first }
}

fn from_columns(a: [f64; 3], b: [f64; 3]) -> Option<Quaternion> {
    let dot3 = |u: [f64; 3], v: [f64; 3]| u[0] * v[0] + u[1] * v[1] + u[2] * v[2];
    let normalised = |u: [f64; 3]| {
        let length = dot3(u, u).sqrt();
        (length > MIN_NORM && length.is_finite()).then(|| u.map(|v| v / length))
    };
    let x = normalised(a)?;
    let overlap = dot3(x, b);
    let y = normalised([b[0] - overlap * x[0], b[1] - overlap * x[1], b[2] - overlap * x[2]])?;
    let z = [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]];
    unit(from_matrix(x, y, z))
}

/// Shepperd's method: divide by the largest of the four components, never by a small one.
fn from_matrix(x: [f64; 3], y: [f64; 3], z: [f64; 3]) -> Quaternion {
    let trace = x[0] + y[1] + z[2];
    if trace > 0.0 {
        let s = 2.0 * (1.0 + trace).sqrt();
        [s / 4.0, (y[2] - z[1]) / s, (z[0] - x[2]) / s, (x[1] - y[0]) / s]
    } else if x[0] >= y[1] && x[0] >= z[2] {
        let s = 2.0 * (1.0 + x[0] - y[1] - z[2]).sqrt();
        [(y[2] - z[1]) / s, s / 4.0, (x[1] + y[0]) / s, (x[2] + z[0]) / s]
    } else if y[1] >= z[2] {
        let s = 2.0 * (1.0 + y[1] - x[0] - z[2]).sqrt();
        [(z[0] - x[2]) / s, (x[1] + y[0]) / s, s / 4.0, (y[2] + z[1]) / s]
    } else {
        let s = 2.0 * (1.0 + z[2] - x[0] - y[1]).sqrt();
        [(x[1] - y[0]) / s, (x[2] + z[0]) / s, (y[2] + z[1]) / s, s / 4.0]
    }
}

fn to_columns([w, x, y, z]: Quaternion) -> ([f64; 3], [f64; 3]) {
    (
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)],
        [2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: [Rotation; 5] = [
        Rotation::QuaternionXyzw,
        Rotation::QuaternionWxyz,
        Rotation::RotationVector,
        Rotation::SixD,
        Rotation::Rpy,
    ];

    fn same_rotation(a: Quaternion, b: Quaternion) -> bool {
        (dot(a, b).abs() - 1.0).abs() < 1e-9
    }

    fn any_rotation() -> impl Strategy<Value = Quaternion> {
        proptest::array::uniform4(-1.0f64..1.0).prop_filter_map("too short", |q| {
            let length = norm(q);
            (length > 0.1).then(|| q.map(|v| v / length))
        })
    }

    /// Roll, pitch and yaw are turns about the fixed axes x, y and z, in that order.
    #[test]
    fn roll_pitch_yaw_compose_about_fixed_axes() {
        let product = |a: Quaternion, b: Quaternion| -> Quaternion {
            [
                a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3],
                a[0] * b[1] + a[1] * b[0] + a[2] * b[3] - a[3] * b[2],
                a[0] * b[2] - a[1] * b[3] + a[2] * b[0] + a[3] * b[1],
                a[0] * b[3] + a[1] * b[2] - a[2] * b[1] + a[3] * b[0],
            ]
        };
        let turn = |axis: usize, angle: f64| {
            let mut v = [0.0; 3];
            v[axis] = angle;
            from_rotation_vector(v)
        };
        let expected = product(turn(2, 1.1), product(turn(1, -0.4), turn(0, 0.3)));
        for (a, b) in from_rpy(0.3, -0.4, 1.1).iter().zip(expected) {
            assert!((a - b).abs() < 1e-15, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn every_notation_round_trips(q in any_rotation()) {
            for kind in KINDS {
                let mut row = vec![0.0; kind.width()];
                encode(kind, q, &vec![0.0; kind.width()], &mut row);
                let back = decode(kind, &row).unwrap();
                prop_assert!(same_rotation(q, back), "{kind:?} {row:?}");
            }
        }

        #[test]
        fn slerp_turns_at_constant_speed_and_stays_on_the_sphere(a in any_rotation(), b in any_rotation()) {
            let b = align(b, a);
            let total = 2.0 * libm::acos(dot(a, b).clamp(-1.0, 1.0));
            for step in 0..=8 {
                let w = f64::from(step) / 8.0;
                let q = slerp(a, b, w);
                prop_assert!((norm(q) - 1.0).abs() < 1e-12);
                let turned = 2.0 * libm::acos(dot(a, q).clamp(-1.0, 1.0));
                prop_assert!((turned - w * total).abs() < 1e-6, "{turned} of {total} at {w}");
            }
        }

        #[test]
        fn no_components_panic(row in proptest::collection::vec(any::<f64>(), 6)) {
            for kind in KINDS {
                if let Some(q) = decode(kind, &row[..kind.width()]) {
                    prop_assert!((norm(q) - 1.0).abs() < 1e-3, "{kind:?} {q:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_rotation_is_refused() {
        assert!(decode(Rotation::QuaternionXyzw, &[0.0; 4]).is_none());
        assert!(decode(Rotation::QuaternionXyzw, &[f64::NAN, 0.0, 0.0, 1.0]).is_none());
        assert!(decode(Rotation::SixD, &[1.0, 0.0, 0.0, 2.0, 0.0, 0.0]).is_none());
    }

    #[test]
    fn a_rotation_vector_past_half_a_turn_stays_on_its_branch() {
        let near = [0.0, 0.0, 3.3];
        let mut out = [0.0; 3];
        encode(Rotation::RotationVector, from_rotation_vector([0.0, 0.0, 3.4]), &near, &mut out);
        assert!((out[2] - 3.4).abs() < 1e-12, "{out:?}");
    }
}
