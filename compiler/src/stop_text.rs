//! Stop texts, found across the borders of pieces and never shown.

/// Holds text back while it may be the beginning of a stop text.
pub struct StopGate<'a> {
    stop: Vec<&'a str>,
    held: String,
}

impl<'a> StopGate<'a> {
    /// A gate for these texts; empty ones stop nothing.
    pub fn new(stop: &'a [String]) -> StopGate<'a> {
        let stop = stop.iter().map(String::as_str).filter(|stop| !stop.is_empty()).collect();
        StopGate { stop, held: String::new() }
    }

    /// Adds text; gives what may be shown, and whether a stop text came.
    pub fn push(&mut self, piece: &str) -> (String, bool) {
        self.held.push_str(piece);
        if let Some(at) = self.stop.iter().filter_map(|stop| self.held.find(stop)).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let is_beginning = |at: usize| self.stop.iter().any(|stop| stop.starts_with(&self.held[at..]));
        let mut starts = self.held.char_indices().map(|(at, _)| at);
        let keep = starts.find(|at| is_beginning(*at)).unwrap_or(self.held.len());
        let rest = self.held.split_off(keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What is still held when nothing more comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_text_across_pieces_is_not_shown() {
        let stop = ["END".to_string(), String::new()];
        let mut gate = StopGate::new(&stop);
        assert_eq!(gate.push("a story E"), ("a story ".to_string(), false));
        assert_eq!(gate.push("N"), (String::new(), false));
        assert_eq!(gate.push("emy. EN"), ("ENemy. ".to_string(), false));
        assert_eq!(gate.push("D more"), (String::new(), true));
    }

    #[test]
    fn the_earliest_of_several_ends_the_text() {
        let stop = ["\n\n".to_string(), "ß!".to_string()];
        let mut gate = StopGate::new(&stop);
        assert_eq!(gate.push("Ma\n"), ("Ma".to_string(), false));
        assert_eq!(gate.push("ß"), ("\n".to_string(), false));
        assert_eq!(gate.push("! \n\n"), (String::new(), true));
        let mut gate = StopGate::new(&stop);
        gate.push("\n");
        assert_eq!(gate.finish(), "\n");
    }
}
