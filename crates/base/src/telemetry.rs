//! Time taken, and progress shown.
//!
//! Progress goes to stderr: a bar on a terminal, a plain line every few seconds anywhere else.
#![expect(clippy::disallowed_methods, reason = "this is the module that reads the monotonic clock")]

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const LINE_EVERY: Duration = Duration::from_secs(5);

/// Time since it was made.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// How far a long piece of work has come.
#[derive(Debug)]
pub struct Progress {
    noun: &'static str,
    watch: Stopwatch,
    bar: ProgressBar,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    done: u64,
    total: u64,
    rows: u64,
    bytes: u64,
    resumed: u64,
    last_line: Option<Instant>,
}

impl Progress {
    /// Work of `total` bytes to read; `noun` is what is counted, such as `episodes`.
    #[must_use]
    pub fn new(noun: &'static str, total_bytes: u64) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("{bar:32} {percent:>3}%  {msg}  eta {eta}")
            .expect("a valid template");
        let bar = ProgressBar::with_draw_target(Some(total_bytes), target).with_style(style);
        let state = State { total: total_bytes, ..State::default() };
        Self { noun, watch: Stopwatch::start(), bar, state: Mutex::new(state) }
    }

    /// `bytes` more of the input have been read.
    pub fn read(&self, bytes: u64) {
        self.update(|state| state.bytes += bytes);
    }

    /// `bytes` of the input were dealt with in an earlier run.
    pub fn resumed(&self, bytes: u64) {
        let first = {
            let mut state = self.state.lock().expect("no one panics while counting");
            state.resumed += bytes;
            state.resumed == bytes
        };
        if first {
            self.say("continuing an earlier run: what it finished is kept");
        }
        self.update(|_| {});
    }

    /// One more of what is counted is done, with `rows` rows.
    pub fn done(&self, rows: u64) {
        self.update(|state| {
            state.done += 1;
            state.rows += rows;
        });
    }

    /// Prints `line` to stderr without tearing the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Clears the bar and returns the closing line.
    #[must_use]
    pub fn finish(&self) -> String {
        self.bar.finish_and_clear();
        let state = self.state.lock().expect("no one panics while counting");
        format!("{} in {:.1} s", self.line(&state), self.watch.seconds())
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().expect("no one panics while counting");
        change(&mut state);
        let position = (state.bytes + state.resumed).min(state.total);
        self.bar.set_position(position);
        if !self.bar.is_hidden() {
            self.bar.set_message(self.line(&state));
            return;
        }
        let now = Instant::now();
        if state.last_line.map_or(now - self.watch.0, |last| now - last) >= LINE_EVERY {
            state.last_line = Some(now);
            let percent = 100 * position / state.total.max(1);
            eprintln!("{percent:>3}%  {}", self.line(&state));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "for display")]
    fn line(&self, state: &State) -> String {
        let seconds = self.watch.seconds().max(1e-3);
        format!(
            "{} {}, {} rows, {:.0} rows/s, {:.3} GB/s read",
            state.done,
            self.noun,
            state.rows,
            state.rows as f64 / seconds,
            state.bytes as f64 / seconds / 1e9,
        )
    }
}
