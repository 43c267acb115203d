//! Policies: what a value between two samples is.

use std::fmt;
use std::str::FromStr;

/// What the value at an instant is, given the samples around it.
///
/// `linear`, `slerp` and `nearest` look at the sample after the instant, so a policy trained on them has seen a little of
/// the future; `hold` and `any` never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Straight line between the neighbours, component by component. Not for rotations.
    Linear,
    /// Great arc between the neighbouring rotations at constant angular speed.
    Slerp(Rotation),
    /// The latest sample at or before the instant.
    Hold,
    /// The neighbour closer in time; the earlier one if both are equally close.
    Nearest,
    /// True where at least one true sample fell after the previous instant and no later than this one.
    Any,
}

/// How a rotation is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rotation {
    /// Unit quaternion, scalar last (ROS, SciPy): 4 components.
    QuaternionXyzw,
    /// Unit quaternion, scalar first (MuJoCo, Eigen): 4 components.
    QuaternionWxyz,
    /// Axis times angle in radians: 3 components.
    RotationVector,
    /// The first two columns of the rotation matrix (Zhou et al. 2019, arXiv 1812.07035): 6 components. Rows instead of
    /// columns give the inverse rotation throughout, and so the same result.
    SixD,
    /// Roll, pitch, yaw in radians about fixed x, y, z (R = Rz·Ry·Rx): 3 components.
    Rpy,
}

impl Rotation {
    /// Components of one rotation.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            Self::QuaternionXyzw | Self::QuaternionWxyz => 4,
            Self::RotationVector | Self::Rpy => 3,
            Self::SixD => 6,
        }
    }
}

const NAMES: [(&str, Policy); 9] = [
    ("linear", Policy::Linear),
    ("hold", Policy::Hold),
    ("nearest", Policy::Nearest),
    ("any", Policy::Any),
    ("slerp-xyzw", Policy::Slerp(Rotation::QuaternionXyzw)),
    ("slerp-wxyz", Policy::Slerp(Rotation::QuaternionWxyz)),
    ("slerp-rotvec", Policy::Slerp(Rotation::RotationVector)),
    ("slerp-6d", Policy::Slerp(Rotation::SixD)),
    ("slerp-rpy", Policy::Slerp(Rotation::Rpy)),
];

/// Why a text is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a policy; there are {}", NAMES.map(|(name, _)| name).join(", "))]
pub struct PolicyError {
    text: String,
}

impl FromStr for Policy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let known = NAMES.iter().find(|(name, _)| *name == text);
        known.map(|&(_, policy)| policy).ok_or_else(|| PolicyError { text: text.into() })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, policy)| policy == self).map(|(name, _)| *name);
        f.write_str(name.expect("every policy has a name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_a_wrong_one_lists_them_all() {
        for (name, policy) in NAMES {
            assert_eq!(name.parse::<Policy>().unwrap(), policy);
            assert_eq!(policy.to_string(), name);
        }
        let error = "slerp".parse::<Policy>().unwrap_err().to_string();
        assert!(error.contains("slerp-xyzw") && error.contains("hold"), "{error}");
    }
}
