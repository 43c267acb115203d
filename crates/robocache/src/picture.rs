//! A picture of one episode before and after: samples on their own clocks, rows on the grid.
//!
//! Plain SVG, self-contained, so that it opens in any browser and without a network.

use std::fmt::Write as _;

const WIDTH: f64 = 1180.0;
const LEFT: f64 = 216.0;
const RIGHT: f64 = 24.0;
const LANE: f64 = 20.0;
const PANEL: f64 = 170.0;
const FRAME: f64 = 112.0;

/// Everything that is drawn, on one time axis in seconds.
pub(crate) struct Picture {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) span: (f64, f64),
    /// Instants per stream as recorded, then those of the grid.
    pub(crate) clocks: Vec<Clock>,
    pub(crate) panels: Vec<Panel>,
    /// JPEG or PNG files shown along the axis.
    pub(crate) frames: Vec<Frame>,
    /// Where rows are masked.
    pub(crate) gaps: Vec<(f64, f64)>,
}

pub(crate) struct Clock {
    pub(crate) name: String,
    pub(crate) instants: Vec<f64>,
    pub(crate) is_grid: bool,
}

/// One quantity: what was recorded and what came out.
pub(crate) struct Panel {
    pub(crate) name: String,
    pub(crate) note: String,
    pub(crate) before: Vec<(f64, f64)>,
    /// Time, value, whether the row is masked.
    pub(crate) after: Vec<(f64, f64, bool)>,
}

pub(crate) struct Frame {
    pub(crate) at: f64,
    pub(crate) label: String,
    pub(crate) image: Vec<u8>,
}

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2933}.h{font-size:19px;font-weight:600}.s{fill:#52606d}.n{font-weight:600}\
.g{fill:#f6ad55;opacity:.22}.b{fill:none;stroke:#cbd2d9}.t{stroke:#9aa5b1;stroke-width:1}.k{stroke:#1d6fd8;stroke-width:1}\
.d{fill:#9aa5b1}.l{fill:none;stroke:#1d6fd8;stroke-width:1.6}.r{fill:#1d6fd8}.m{fill:#fff;stroke:#dd6b20;stroke-width:1.3}";

impl Picture {
    /// The picture as an SVG document.
    pub(crate) fn svg(&self) -> String {
        let clocks_height = self.clocks.len() as f64 * LANE + 26.0;
        let frames_height = if self.frames.is_empty() { 0.0 } else { FRAME + 44.0 };
        let height = 84.0 + clocks_height + self.panels.len() as f64 * (PANEL + 34.0) + frames_height + 34.0;
        let mut out = String::new();
        put(
            &mut out,
            format_args!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" height=\"{height:.0}\">\
             <style>{STYLE}</style><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
            ),
        );
        put(&mut out, format_args!("<text x=\"24\" y=\"34\" class=\"h\">{}</text>", escape(&self.title)));
        put(&mut out, format_args!("<text x=\"24\" y=\"56\" class=\"s\">{}</text>", escape(&self.subtitle)));
        let mut top = 84.0;
        self.draw_clocks(&mut out, top);
        top += clocks_height;
        for panel in &self.panels {
            self.draw_panel(&mut out, panel, top);
            top += PANEL + 34.0;
        }
        self.draw_frames(&mut out, top);
        self.draw_axis(&mut out, height - 26.0);
        out.push_str("</svg>\n");
        out
    }

    fn x(&self, t: f64) -> f64 {
        LEFT + (t - self.span.0) / (self.span.1 - self.span.0) * (WIDTH - LEFT - RIGHT)
    }

    fn within(&self, t: f64) -> bool {
        (self.span.0..=self.span.1).contains(&t)
    }

    fn shade_gaps(&self, out: &mut String, top: f64, height: f64) {
        for &(from, to) in &self.gaps {
            let (from, to) = (self.x(from.max(self.span.0)), self.x(to.min(self.span.1)));
            put(
                out,
                format_args!(
                    "<rect class=\"g\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
                    (to - from).max(0.0)
                ),
            );
        }
    }

    fn draw_clocks(&self, out: &mut String, top: f64) {
        self.shade_gaps(out, top, self.clocks.len() as f64 * LANE);
        for (lane, clock) in self.clocks.iter().enumerate() {
            let y = top + lane as f64 * LANE;
            let class = if clock.is_grid { "k" } else { "t" };
            let weight = if clock.is_grid { "n" } else { "s" };
            put(
                out,
                format_args!(
                    "<text class=\"{weight}\" x=\"24\" y=\"{:.1}\">{}</text>",
                    y + 14.0,
                    escape(&clock.name)
                ),
            );
            let mut path = String::new();
            for &t in clock.instants.iter().filter(|&&t| self.within(t)) {
                put(&mut path, format_args!("M{:.2} {:.1}v13", self.x(t), y + 3.0));
            }
            put(out, format_args!("<path class=\"{class}\" d=\"{path}\"/>"));
        }
    }

    fn draw_panel(&self, out: &mut String, panel: &Panel, top: f64) {
        let values = panel.before.iter().filter(|p| self.within(p.0)).map(|p| p.1);
        let values: Vec<f64> =
            values.chain(panel.after.iter().filter(|p| self.within(p.0)).map(|p| p.1)).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low < high { (low, high) } else { (low - 1.0, low + 1.0) };
        let margin = 0.08 * (high - low);
        let y = |v: f64| top + PANEL - (v - low + margin) / (high - low + 2.0 * margin) * PANEL;
        put(
            out,
            format_args!("<text class=\"n\" x=\"24\" y=\"{:.1}\">{}</text>", top + 18.0, escape(&panel.name)),
        );
        for (line, text) in panel.note.lines().enumerate() {
            let y = top + 38.0 + 16.0 * line as f64;
            put(out, format_args!("<text class=\"s\" x=\"24\" y=\"{y:.1}\">{}</text>", escape(text)));
        }
        for v in [low, high] {
            put(
                out,
                format_args!(
                    "<text class=\"s\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{v:.2}</text>",
                    LEFT - 8.0,
                    y(v) + 4.0
                ),
            );
        }
        put(
            out,
            format_args!(
                "<rect class=\"b\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{PANEL}\"/>",
                WIDTH - LEFT - RIGHT
            ),
        );
        self.shade_gaps(out, top, PANEL);
        for &(t, v) in panel.before.iter().filter(|p| self.within(p.0)) {
            put(
                out,
                format_args!("<circle class=\"d\" cx=\"{:.2}\" cy=\"{:.2}\" r=\"2\"/>", self.x(t), y(v)),
            );
        }
        let mut line = String::new();
        let mut pen_down = false;
        for &(t, v, masked) in panel.after.iter().filter(|p| self.within(p.0)) {
            if !masked {
                put(
                    &mut line,
                    format_args!("{}{:.2} {:.2}", if pen_down { 'L' } else { 'M' }, self.x(t), y(v)),
                );
            }
            pen_down = !masked;
        }
        put(out, format_args!("<path class=\"l\" d=\"{line}\"/>"));
        for &(t, v, masked) in panel.after.iter().filter(|p| self.within(p.0)) {
            let class = if masked { "m" } else { "r" };
            put(
                out,
                format_args!(
                    "<circle class=\"{class}\" cx=\"{:.2}\" cy=\"{:.2}\" r=\"2.4\"/>",
                    self.x(t),
                    y(v)
                ),
            );
        }
    }

    fn draw_frames(&self, out: &mut String, top: f64) {
        if self.frames.is_empty() {
            return;
        }
        put(out, format_args!("<text class=\"n\" x=\"24\" y=\"{:.1}\">camera frames</text>", top + 18.0));
        put(
            out,
            format_args!(
                "<text class=\"s\" x=\"24\" y=\"{:.1}\">nearest in time to the rows</text>",
                top + 36.0
            ),
        );
        for frame in self.frames.iter().filter(|frame| self.within(frame.at)) {
            let width = FRAME * 4.0 / 3.0;
            let x = (self.x(frame.at) - width / 2.0).clamp(LEFT, WIDTH - RIGHT - width);
            put(
                out,
                format_args!("<path class=\"t\" d=\"M{:.1} {:.1}V{top:.1}\"/>", self.x(frame.at), top - 22.0),
            );
            let kind = if frame.image.starts_with(&[0x89]) { "png" } else { "jpeg" };
            put(
                out,
                format_args!(
                    "<image x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{FRAME}\" href=\"data:image/{kind};base64,{}\"/>",
                    base64(&frame.image)
                ),
            );
            put(
                out,
                format_args!(
                    "<text class=\"s\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                    top + FRAME + 16.0,
                    escape(&frame.label)
                ),
            );
        }
    }

    fn draw_axis(&self, out: &mut String, y: f64) {
        let step = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .find(|step| (self.span.1 - self.span.0) / step <= 12.0)
            .unwrap_or(60.0);
        let first = (self.span.0 / step).ceil();
        for tick in 0..=((self.span.1 / step).floor() - first).max(0.0) as i64 {
            let t = (first + tick as f64) * step;
            put(out, format_args!("<path class=\"t\" d=\"M{0:.1} {1:.1}v5\"/>", self.x(t), y - 12.0));
            put(
                out,
                format_args!(
                    "<text class=\"s\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{t:.2} s</text>",
                    self.x(t),
                    y + 10.0
                ),
            );
        }
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes any text");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// RFC 4648 base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (i, &b)| word | u32::from(b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= chunk.len() { digit.into() } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn text_from_recordings_cannot_leave_its_element() {
        assert_eq!(escape("<script>\"&"), "&lt;script&gt;&quot;&amp;");
    }
}
