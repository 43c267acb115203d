//! Topics: channels of one name and schema, decoded message by message into streams.
//!
//! [`Topics::route`] meets a channel: it compiles the schema, or says why the channel is left out. [`Topics::message`]
//! decodes one message; its shape key finds the plan made for earlier messages of that shape, so that only a
//! new shape costs more than the copy. [`Topics::finish`] gives the streams, each with its clock chosen.
//!
//! Invariants: what is left out is counted and reported; a plan is only used on the stream it was made for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::cdr::{DecodeError, Decoder};
use super::options::{BagOptions, EpisodesFrom};
use super::ros2msg::{DefinitionError, Message};
use super::shape::{Row, Taken, TooManyFeatures, describe};
use super::stream::{Plan, StreamBuilder};
use super::{json, ros2msg};
use crate::Finding;
use crate::read::Limits;

/// A channel as its record describes it.
#[derive(Debug)]
pub(super) struct Channel<'a> {
    pub(super) topic: &'a str,
    pub(super) message_encoding: &'a str,
    pub(super) schema_name: &'a str,
    pub(super) schema_encoding: &'a str,
    pub(super) schema: &'a Arc<[u8]>,
    pub(super) metadata: &'a BTreeMap<String, String>,
}

/// What becomes of a channel's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Decoded by the topic with this number.
    Topic(usize),
    /// Left out for the reason with this number.
    LeftOut(usize),
    /// Not wanted.
    Excluded,
}

#[derive(Debug)]
enum Format {
    Cdr(Decoder),
    Json,
}

/// Messages of one topic and schema.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) latched: bool,
    pub(super) streams: Vec<StreamBuilder>,
    format: Format,
    has_header: bool,
    by_identity: HashMap<Vec<String>, usize>,
    plans: PlanCache,
    messages: u64,
    /// Set once the topic has more features or streams than allowed.
    abandoned: bool,
}

/// Why messages are left out, and how many.
#[derive(Debug)]
struct LeftOut {
    topic: String,
    code: &'static str,
    reason: String,
    messages: u64,
}

/// Topic, encodings, schema name and schema text.
type ChannelKey = (String, String, String, Arc<[u8]>);
/// Schema name and schema text.
type DefinitionKey = (String, Arc<[u8]>);

/// All topics of a recording.
#[derive(Debug)]
pub(super) struct Topics {
    limits: Limits,
    options: BagOptions,
    pub(super) topics: Vec<Topic>,
    left_out: Vec<LeftOut>,
    /// Channels already met, by everything that tells them apart.
    routes: HashMap<ChannelKey, Route>,
    /// Definitions already compiled, by name and text: many channels share one.
    definitions: HashMap<DefinitionKey, Result<Arc<Message>, DefinitionError>>,
    stream_names: Taken,
    streams: usize,
    row: Row,
    /// Payload held, in bytes.
    bytes: u64,
    /// Messages seen, wanted or not.
    pub(super) messages: u64,
}

impl Topics {
    pub(super) fn new(options: BagOptions, limits: Limits) -> Self {
        Self {
            limits,
            options,
            topics: Vec::new(),
            left_out: Vec::new(),
            routes: HashMap::new(),
            definitions: HashMap::new(),
            stream_names: Taken::default(),
            streams: 0,
            row: Row::default(),
            bytes: 0,
            messages: 0,
        }
    }

    /// Where the messages of `channel` go.
    pub(super) fn route(&mut self, channel: &Channel<'_>) -> Route {
        let key = (
            channel.topic.to_owned(),
            format!("{} {}", channel.message_encoding, channel.schema_encoding),
            channel.schema_name.to_owned(),
            Arc::clone(channel.schema),
        );
        if let Some(&route) = self.routes.get(&key) {
            if let Route::Topic(topic) = route {
                // Another publisher of the topic: it is latched only if all of them are.
                self.topics[topic].latched &= is_latched(channel.metadata);
            }
            return route;
        }
        let route = self.new_route(channel);
        self.routes.insert(key, route);
        route
    }

    fn new_route(&mut self, channel: &Channel<'_>) -> Route {
        let marks_episodes = self.options.episodes == EpisodesFrom::Topic(channel.topic.into());
        if !marks_episodes && !self.options.topics.allows(channel.topic) {
            return Route::Excluded;
        }
        match self.format(channel) {
            Ok(format) => {
                self.topics.push(Topic::new(channel, format));
                Route::Topic(self.topics.len() - 1)
            }
            Err((code, reason)) => {
                self.left_out.push(LeftOut { topic: channel.topic.into(), code, reason, messages: 0 });
                Route::LeftOut(self.left_out.len() - 1)
            }
        }
    }

    fn format(&mut self, channel: &Channel<'_>) -> Result<Format, (&'static str, String)> {
        match (channel.message_encoding, channel.schema_encoding) {
            ("json", _) => Ok(Format::Json),
            ("cdr", "ros2msg") => {
                let key = (channel.schema_name.to_owned(), Arc::clone(channel.schema));
                let compiled = self.definitions.entry(key).or_insert_with(|| {
                    let text = String::from_utf8_lossy(channel.schema);
                    ros2msg::compile(channel.schema_name, &text, self.limits.depth)
                });
                match compiled {
                    Ok(root) => Ok(Format::Cdr(Decoder::new(Arc::clone(root)))),
                    Err(e) => Err((
                        "unreadable-schema",
                        format!("the definition of `{}` cannot be used: {e}", channel.schema_name),
                    )),
                }
            }
            ("cdr", "") => Err((
                "unreadable-schema",
                format!("the file holds no definition of `{}`", channel.schema_name),
            )),
            (messages, schema) => Err((
                "unsupported-encoding",
                format!(
                    "messages are encoded as `{messages}` with a `{schema}` schema; only cdr with ros2msg, and json, can \
                     be read"
                ),
            )),
        }
    }

    /// Decodes a message received at `log_ns` that belongs to `route`.
    ///
    /// # Errors
    /// The topic, the message's number within it, and what is wrong with it.
    pub(super) fn message(
        &mut self,
        route: Route,
        log_ns: i64,
        data: &[u8],
    ) -> Result<(), (String, u64, String)> {
        self.messages += 1;
        let topic = match route {
            Route::Excluded => return Ok(()),
            Route::LeftOut(index) => {
                self.left_out[index].messages += 1;
                return Ok(());
            }
            Route::Topic(index) => &mut self.topics[index],
        };
        topic.messages += 1;
        if topic.abandoned {
            return Ok(());
        }
        let room = self.limits.features.saturating_sub(self.streams);
        let streams_before = topic.streams.len();
        match topic.message(log_ns, data, &mut self.row, room, &self.limits, &mut self.stream_names) {
            Ok(Some(bytes)) => self.bytes += bytes,
            Ok(None) => topic.abandon(),
            Err(e) => {
                let place =
                    if e.path.is_empty() { topic.name.clone() } else { format!("{}.{}", topic.name, e.path) };
                return Err((place, topic.messages - 1, e.problem));
            }
        }
        self.streams = self.streams + topic.streams.len() - streams_before;
        Ok(())
    }

    /// Holds what is kept in memory against the limit.
    pub(super) fn check_size(&self) -> Result<(), String> {
        if self.bytes <= self.limits.episode_bytes {
            return Ok(());
        }
        Err(format!(
            "the recording holds more than {} bytes of payload: raise --max-episode-size, leave topics out with \
             --exclude, or split the recording into files of one episode each",
            self.limits.episode_bytes
        ))
    }

    /// The topics with at least one stream, and what is to be said of the others.
    pub(super) fn finish(self, findings: &mut Vec<Finding>) -> Vec<Topic> {
        for left in self.left_out.iter().filter(|l| l.messages > 0) {
            let message = format!("{}: its {} message(s) are left out", left.reason, left.messages);
            findings.push(Finding::new(left.code, &left.topic, message));
        }
        for topic in self.topics.iter().filter(|t| t.abandoned) {
            let message = format!(
                "the topic has more than {} features, or too many sets of names: its {} message(s) are left out; exclude it \
                 to silence this",
                self.limits.features, topic.messages
            );
            findings.push(Finding::new("too-many-features", &topic.name, message));
        }
        for topic in self.topics.iter().filter(|t| t.messages == 0) {
            let message = "the recording announces the topic but has no message of it";
            findings.push(Finding::new("stream-absent", &topic.name, message));
        }
        for topic in self.topics.iter().filter(|t| t.streams.len() > 1) {
            let message = format!(
                "its messages carry {} different sets of names, and each set is a stream of its own ({} to {}); a name that is \
                 in several sets has only some of its samples in each",
                topic.streams.len(),
                topic.streams[0].name,
                topic.streams[topic.streams.len() - 1].name
            );
            findings.push(Finding::new("several-name-sets", &topic.name, message));
        }
        for topic in self.options.clock_offsets_ns.keys() {
            if !self.topics.iter().any(|t| t.name == *topic) {
                let message = "a clock offset is given for this topic, which the recording does not have";
                findings.push(Finding::new("unused-clock-offset", topic, message));
            }
        }
        self.topics.into_iter().filter(|t| !t.streams.is_empty()).collect()
    }
}

impl Topic {
    fn new(channel: &Channel<'_>, format: Format) -> Self {
        let has_header = match &format {
            Format::Cdr(decoder) => decoder.has_header(),
            // Any JSON message may turn out to have one.
            Format::Json => true,
        };
        Self {
            name: channel.topic.into(),
            latched: is_latched(channel.metadata),
            streams: Vec::new(),
            format,
            has_header,
            by_identity: HashMap::new(),
            plans: PlanCache::default(),
            messages: 0,
            abandoned: false,
        }
    }

    /// Whether the type says that messages carry a stamp, so that its absence is worth a word.
    pub(super) fn declares_header(&self) -> bool {
        matches!(self.format, Format::Cdr(_)) && self.has_header
    }

    /// Appends a message; the bytes of payload it takes, or `None` if the topic has become too large to keep.
    fn message(
        &mut self,
        log_ns: i64,
        data: &[u8],
        row: &mut Row,
        room: usize,
        limits: &Limits,
        names: &mut Taken,
    ) -> Result<Option<u64>, DecodeError> {
        row.clear();
        let value = match &mut self.format {
            Format::Cdr(decoder) => decoder.decode(data, row).map(|()| None)?,
            Format::Json => Some(json::decode(data, limits.depth, row)?),
        };
        let plan = match self.plans.get(&row.key) {
            Some(plan) => plan,
            None => {
                let node = match (&self.format, &value) {
                    (Format::Cdr(decoder), _) => decoder.node(row, limits.features),
                    (Format::Json, value) => {
                        json::node(value.as_ref().unwrap_or(&Value::Null), limits.features)
                    }
                };
                let layout = node.and_then(|node| describe(&node, limits.features));
                let Ok(layout) = layout else { return Ok(None) };
                let Ok(plan) = self.plan(layout, room, limits.features, names) else { return Ok(None) };
                self.plans.insert(&row.key, plan)
            }
        };
        Ok(Some(self.streams[plan.stream].append(&plan, row, log_ns, self.has_header)))
    }

    fn plan(
        &mut self,
        layout: super::shape::Layout,
        room: usize,
        most: usize,
        names: &mut Taken,
    ) -> Result<Plan, TooManyFeatures> {
        let stream = match self.by_identity.get(&layout.identity) {
            Some(&stream) => stream,
            None if room == 0 => return Err(TooManyFeatures),
            None => {
                self.by_identity.insert(layout.identity.clone(), self.streams.len());
                self.streams.push(StreamBuilder::new(names.distinct(self.name.clone())));
                self.streams.len() - 1
            }
        };
        let plan = self.streams[stream].plan(stream, layout);
        // Lost columns count too, so that ever new JSON fields cannot fill the memory.
        if self.streams[stream].columns() > most { Err(TooManyFeatures) } else { Ok(plan) }
    }

    fn abandon(&mut self) {
        self.abandoned = true;
        self.streams.clear();
        self.by_identity.clear();
        self.plans = PlanCache::default();
    }
}

/// Plans by shape key. A topic whose every message has another shape would fill any cache, so it starts afresh when
/// full.
#[derive(Debug, Default)]
struct PlanCache {
    last: Option<(Vec<u8>, Arc<Plan>)>,
    all: HashMap<Vec<u8>, Arc<Plan>>,
    key_bytes: usize,
}

const PLANS_MOST: usize = 1024;
const PLAN_KEY_BYTES_MOST: usize = 4 << 20;

impl PlanCache {
    fn get(&mut self, key: &[u8]) -> Option<Arc<Plan>> {
        if let Some((last, plan)) = &self.last
            && last == key
        {
            return Some(Arc::clone(plan));
        }
        let plan = self.all.get(key)?;
        self.last = Some((key.to_vec(), Arc::clone(plan)));
        Some(Arc::clone(plan))
    }

    fn insert(&mut self, key: &[u8], plan: Plan) -> Arc<Plan> {
        if self.all.len() >= PLANS_MOST || self.key_bytes >= PLAN_KEY_BYTES_MOST {
            self.all.clear();
            self.key_bytes = 0;
        }
        let plan = Arc::new(plan);
        self.key_bytes += key.len();
        self.all.insert(key.to_vec(), Arc::clone(&plan));
        self.last = Some((key.to_vec(), Arc::clone(&plan)));
        plan
    }
}

/// Whether every publisher offered its last messages to whoever comes later.
///
/// rosbag2 records the offered profiles as YAML: `durability: 1` up to Iron, `durability: transient_local` since
/// (`rosbag2_storage/qos.cpp`, `rmw_qos_durability_policy_t`).
fn is_latched(metadata: &BTreeMap<String, String>) -> bool {
    let Some(profiles) = metadata.get("offered_qos_profiles") else { return false };
    let mut durabilities = profiles.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches("- ");
        line.strip_prefix("durability:").map(str::trim)
    });
    let is_transient = |d: &str| d == "1" || d == "transient_local";
    durabilities.next().is_some_and(is_transient) && durabilities.all(is_transient)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latched_is_what_every_profile_says() {
        let latched =
            |text: &str| is_latched(&BTreeMap::from([("offered_qos_profiles".into(), text.into())]));
        assert!(latched("- history: 3\n  durability: 1\n  deadline:\n    sec: 0"));
        assert!(latched("- durability: transient_local\n  depth: 1"));
        assert!(!latched("- durability: 2"));
        assert!(!latched("- durability: 1\n- durability: volatile"));
        assert!(!latched("") && !is_latched(&BTreeMap::new()));
    }
}
