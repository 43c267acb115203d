//! A drafted map: what an episode's streams could be to a policy, for a person to correct.
//!
//! Names decide what is offered where (a topic called `…command…` is probably an action), which is why this is a draft and
//! never a default: nothing is guessed when data are written.

use std::fmt::Write as _;

use resample::median_period_ns;
use trajectory::{ColumnKind, Feature, Meaning, Stream, Trajectory};

use crate::recipe::column_name;

/// What a feature could be.
#[derive(PartialEq)]
enum Role {
    Image(String),
    Task,
    Action,
    State,
    /// Known to be there, but not obviously of use.
    Other,
}

const COMMANDS: [&str; 6] = ["action", "command", "cmd", "target", "setpoint", "goal"];
const TASKS: [&str; 4] = ["task", "instruction", "language", "prompt"];
/// Derived or housekeeping quantities, offered as comments only.
const SECONDARY: [&str; 8] =
    ["velocity", "effort", "covariance", "header", "discount", "reward", "embedding", "timestamp"];

/// A map for recordings like `sample`, as TOML with comments.
pub(crate) fn draft(sample: &Trajectory) -> String {
    let roles: Vec<(&Stream, &Feature, Role)> =
        sample.streams.iter().flat_map(|s| s.features.iter().map(move |f| (s, f, role(f)))).collect();
    let mut out = String::from(
        "# Drafted from one episode: correct it, then give it to `robocache preprocess --map`.\n\
         # A feature may be narrowed to components: \"/joint_states.position[0:3]\" or \"…[panda_joint1,panda_joint2]\".\n\n[map]\n",
    );
    out.push_str("robot_type = \"unknown\"\n");
    match roles.iter().find(|(_, _, role)| *role == Role::Task) {
        Some((_, feature, _)) => line(&mut out, &format!("task_from = {}", quoted(&feature.name))),
        None => line(&mut out, "task = \"describe what the robot does\""),
    }
    for (column, wanted) in [("observation.state", Role::State), ("action", Role::Action)] {
        let features: Vec<String> =
            roles.iter().filter(|(_, _, role)| *role == wanted).map(|(_, f, _)| quoted(&f.name)).collect();
        if features.is_empty() {
            line(
                &mut out,
                &format!("# \"{column}\" = []  # nothing is obviously this; choose from the list below"),
            );
        } else {
            line(&mut out, &format!("\"{column}\" = [\n    {},\n]", features.join(",\n    ")));
        }
    }
    for (_, feature, role) in &roles {
        if let Role::Image(name) = role {
            line(&mut out, &format!("{} = {}", quoted(name), quoted(&feature.name)));
        }
    }
    line(&mut out, "\n# Also recorded:");
    for (_, feature, _) in roles.iter().filter(|(_, _, role)| *role == Role::Other) {
        line(
            &mut out,
            &format!("#   {}  {} {:?}", feature.name, feature.column.kind().name(), feature.shape),
        );
    }
    draft_streams(&mut out, &roles);
    out
}

/// Slow streams that tell changes should not shorten an episode to their last message.
fn draft_streams(out: &mut String, roles: &[(&Stream, &Feature, Role)]) {
    let mut named: Vec<&str> = Vec::new();
    for (stream, feature, role) in roles {
        let used = matches!(role, Role::State | Role::Action);
        let tells_changes =
            matches!(feature.column.kind(), ColumnKind::Bool | ColumnKind::I64) && !stream.latched;
        if used && tells_changes && stream.name != "steps" && !named.contains(&stream.name.as_str()) {
            named.push(&stream.name);
            let period = median_period_ns(&stream.times_ns).unwrap_or(0);
            let milliseconds = (period.saturating_mul(3) / 1_000_000).max(100);
            line(out, &format!("\n[stream.{}]", quoted(&stream.name)));
            line(out, "required = false  # its last value holds to the end of the episode");
            line(out, &format!("max_gap = \"{milliseconds}ms\""));
        }
    }
}

fn role(feature: &Feature) -> Role {
    let name = feature.name.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if feature.meaning == Meaning::EncodedImage {
        let column = column_name(feature);
        return Role::Image(if column.starts_with("observation.") {
            column
        } else {
            camera_name(&feature.name)
        });
    }
    match feature.column.kind() {
        ColumnKind::Str if feature.meaning == Meaning::Instruction || (has(&TASKS) && !has(&SECONDARY)) => {
            Role::Task
        }
        ColumnKind::Str | ColumnKind::Bytes => Role::Other,
        _ if has(&SECONDARY) || name.contains("/is_") => Role::Other,
        _ if has(&COMMANDS) => Role::Action,
        _ => Role::State,
    }
}

/// `/camera/front/compressed.data` is the camera `front`.
fn camera_name(feature: &str) -> String {
    let topic = feature.split('.').next().unwrap_or(feature);
    let generic = [
        "compressed",
        "image",
        "image_raw",
        "image_color",
        "image_compressed",
        "rgb",
        "color",
        "camera",
        "cameras",
    ];
    let parts: Vec<&str> =
        topic.split('/').filter(|part| !part.is_empty() && !generic.contains(part)).collect();
    let name = if parts.is_empty() { "camera".into() } else { parts.join("_") };
    format!("observation.images.{name}")
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_are_named_by_what_tells_them_apart() {
        assert_eq!(camera_name("/camera/front/compressed.data"), "observation.images.front");
        assert_eq!(camera_name("/camera/image_raw/compressed.data"), "observation.images.camera");
        assert_eq!(camera_name("/robot/wrist_left/image.data"), "observation.images.robot_wrist_left");
    }
}
