//! Where events are shown: a live table on a terminal, lines elsewhere.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, SystemTime};

use terminal_size::{Height, Width, terminal_size};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::board::Board;
use super::event::Stamped;
use super::lines::{Lines, json_line};
use super::topology::Instance;
use crate::output::{Format, Output};

/// How often the table is drawn at most: often enough to look live, seldom enough to cost nothing.
const FRAME: Duration = Duration::from_millis(100);

/// How often the table is drawn at least: times in it run.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The size that is taken for granted if the terminal does not tell.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// Begin and end of a picture that the terminal shows at once, where it knows how to (others ignore it).
const BEGIN: &str = "\u{1b}[?2026h";
const END: &str = "\u{1b}[?2026l";
const ERASE_LINE_END: &str = "\u{1b}[K";
const ERASE_BELOW: &str = "\u{1b}[J";
const RESET_COLOUR: &str = "\u{1b}[0m";

/// A way to show events.
pub(crate) struct Screen {
    output: Output,
    way: Way,
}

enum Way {
    Table(Box<Board>),
    Lines(Lines),
    Json,
}

impl Screen {
    /// A table on a terminal that can move its cursor, lines elsewhere, JSON lines if asked for.
    pub(crate) fn new(output: Output, trust_domain: String, instances: &[Instance]) -> Self {
        let movable = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let lines = Lines {
            trust_domain,
            palette: output.palette,
        };
        let way = match output.format {
            Format::Json => Way::Json,
            Format::Text if io::stdout().is_terminal() && movable => {
                Way::Table(Box::new(Board::new(instances, lines)))
            }
            Format::Text => Way::Lines(lines),
        };
        Self { output, way }
    }

    /// Whether what only the table shows is of use.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.way, Way::Table(_))
    }

    /// Shows events until there will be no more.
    ///
    /// # Errors
    /// Standard output cannot be written to any more.
    pub(crate) async fn show(self, events: mpsc::UnboundedReceiver<Stamped>) -> io::Result<()> {
        match self.way {
            Way::Table(board) => show_table(self.output, *board, events).await,
            Way::Lines(lines) => {
                show_lines(self.output, events, |event| {
                    lines.text(event).unwrap_or_default()
                })
                .await
            }
            Way::Json => show_lines(self.output, events, json_line).await,
        }
    }
}

async fn show_lines(
    output: Output,
    mut events: mpsc::UnboundedReceiver<Stamped>,
    text: impl Fn(&Stamped) -> String,
) -> io::Result<()> {
    while let Some(event) = events.recv().await {
        output.write(&text(&event))?;
    }
    Ok(())
}

async fn show_table(
    output: Output,
    mut board: Board,
    mut events: mpsc::UnboundedReceiver<Stamped>,
) -> io::Result<()> {
    let mut drawn = 0;
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stale = true;
    let mut since_drawn = Duration::ZERO;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => {
                    board.note(&event);
                    stale = true;
                }
                None => break,
            },
            _ = frames.tick() => {
                since_drawn += FRAME;
                if stale || since_drawn >= HEARTBEAT {
                    drawn = draw(output, &board, drawn)?;
                    (stale, since_drawn) = (false, Duration::ZERO);
                }
            }
        }
    }
    draw(output, &board, drawn)?;
    Ok(())
}

/// Draws over the picture that was drawn last, in one write; gives the number of lines.
fn draw(output: Output, board: &Board, lines_above: usize) -> io::Result<usize> {
    let (width, height) = terminal_size().map_or(USUAL_SIZE, |(Width(width), Height(height))| {
        (width.into(), height.into())
    });
    // The last row is left free, so that the final line break scrolls nothing.
    let picture = board.picture(height.saturating_sub(1), SystemTime::now());
    output.write(&frame(&picture, lines_above, width))?;
    Ok(picture.len())
}

/// A picture as the terminal takes it.
fn frame(picture: &[String], lines_above: usize, width: usize) -> String {
    let mut frame = String::from(BEGIN);
    if lines_above > 0 {
        frame.push_str(&format!("\u{1b}[{lines_above}F"));
    }
    for line in picture {
        frame.push_str(&cut(line, width));
        frame.push_str(ERASE_LINE_END);
        frame.push('\n');
    }
    frame.push_str(ERASE_BELOW);
    frame.push_str(END);
    frame
}

/// A line cut to the width of the terminal. Colours take no room; a colour that is cut is reset.
fn cut(line: &str, width: usize) -> String {
    let mut text = String::with_capacity(line.len());
    let mut room = width;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            // The only sequences in a picture are its own colours: ESC [ … m.
            text.push(character);
            for part in characters.by_ref() {
                text.push(part);
                if part == 'm' {
                    break;
                }
            }
        } else if room > 0 {
            text.push(character);
            room -= 1;
        } else {
            text.push_str(RESET_COLOUR);
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_by_what_is_seen_of_them() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 3), "abc\u{1b}[0m");
        assert_eq!(
            cut("\u{1b}[31mDENY\u{1b}[0m x", 6),
            "\u{1b}[31mDENY\u{1b}[0m x"
        );
        assert_eq!(cut("\u{1b}[31mDENY\u{1b}[0m", 2), "\u{1b}[31mDE\u{1b}[0m");
        assert_eq!(cut("a → b", 3), "a →\u{1b}[0m");
    }

    #[test]
    fn a_picture_is_drawn_over_the_last_one() {
        let picture = ["one".to_owned(), "two".to_owned()];
        let first = frame(&picture, 0, 80);
        assert_eq!(
            first,
            "\u{1b}[?2026hone\u{1b}[K\ntwo\u{1b}[K\n\u{1b}[J\u{1b}[?2026l"
        );
        let second = frame(&picture, 2, 80);
        assert!(
            second.starts_with("\u{1b}[?2026h\u{1b}[2Fone"),
            "{second:?}"
        );
    }
}
