//! What a fuzzer tries on configuration files: any text.

use super::{Config, Settings};

/// A file that is taken makes a configuration that, written down, is taken again and is the same; what is not says where or which
/// field.
pub fn configs(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let config = |settings| Config::with_home(settings, |_| Some("/home/ada".into()));
    let settings = match Settings::from_toml(text) {
        Ok(settings) => settings,
        Err(what) => return assert!(!what.is_empty()),
    };
    match config(settings) {
        Ok(taken) => {
            let resolved = taken.resolved().values();
            let lines =
                resolved.iter().filter_map(|(name, value)| Some(format!("{name} = {}\n", value.as_ref()?)));
            let written: String = lines.collect();
            let again = Settings::from_toml(&written).expect("what was written is read");
            assert_eq!(config(again).expect("what was taken is taken again"), taken, "{written}");
        }
        Err(error) => {
            let named = error.to_string();
            let field = named.split(':').next().unwrap_or_default();
            assert!(Settings::default().values().iter().any(|(name, _)| *name == field), "{named}");
        }
    }
}
