//! Progress bars, on a terminal only.

use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::show::Show;

/// How often a bar is drawn again.
const REDRAW: Duration = Duration::from_millis(100);

/// A bar of bytes: done, of how many, how fast.
pub(crate) fn bytes(show: Show, total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{bar:32} {bytes} of {total_bytes}  {bytes_per_sec}  {msg}",
        None => "{spinner} {bytes}  {bytes_per_sec}  {msg}",
    };
    bar(show, total, template)
}

/// A bar of records, whose bytes are its message.
pub(crate) fn records(show: Show, total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{bar:32} {count} of {human_len} records  {msg}",
        None => "{spinner} {count} records  {msg}",
    };
    bar(show, total, template)
}

/// The message of a bar of records.
pub(crate) fn bytes_done(bar: &ProgressBar, bytes: u64) {
    let seconds = bar.elapsed().as_secs_f64().max(0.001);
    bar.set_message(format!("{}  {}/s", HumanBytes(bytes), HumanBytes((bytes as f64 / seconds) as u64)));
}

fn bar(show: Show, total: Option<u64>, template: &str) -> ProgressBar {
    if !show.person {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).expect("the templates above are sound");
    let count = |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        let _ = write!(text, "{}", HumanCount(state.pos())); // a bar that cannot be drawn is no failure
    };
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
    bar.set_style(style.with_key("count", count).progress_chars("=> "));
    bar.enable_steady_tick(REDRAW);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_no_bars() {
        assert!(bytes(Show { json: true, person: false }, Some(1)).is_hidden());
    }

    #[test]
    fn every_template_is_sound() {
        for total in [None, Some(5)] {
            bytes(Show { json: false, person: true }, total).finish_and_clear();
            records(Show { json: false, person: true }, total).finish_and_clear();
        }
    }
}
