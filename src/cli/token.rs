//! `taxond token`

use clap::{Args, ValueEnum};
use rand::{TryRng as _, rngs::SysRng};
use serde_json::json;

use crate::{
    cli::{
        Global,
        failure::{Exit, Failure},
        output,
    },
    text::person,
};

/// What tokens begin with, so that a scanner of secrets knows them.
const PREFIX: &str = "taxond_";

#[derive(Debug, Args)]
pub(super) struct Token {
    /// Name of whoever will have the token
    #[arg(value_parser = person)]
    name: String,
    /// What it lets do
    #[arg(long, value_enum, default_value_t = Role::Predict)]
    role: Role,
    /// Model that it lets use, `*` for any characters; may be repeated [default: all]
    #[arg(long, value_name = "PATTERN")]
    model: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    /// Ask, and read what it takes to ask
    Predict,
    /// Also store examples, train, change classes and promote
    Train,
    /// Also make, import and delete models and versions
    Admin,
}

impl Token {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let mut random = [0; 32];
        SysRng.try_fill_bytes(&mut random).map_err(|cause| {
            Failure::new(Exit::Failed, format!("the system gives no random bytes: {cause}"))
        })?;
        let token = format!("{PREFIX}{}", blake3::Hash::from_bytes(random).to_hex());
        let hash = blake3::hash(token.as_bytes()).to_hex();
        let role = format!("{:?}", self.role).to_lowercase();
        let text = |text: &str| toml::Value::from(text).to_string();
        let mut entry =
            format!("[[token]]\nname = {}\nhash = \"{hash}\"\nrole = \"{role}\"", text(&self.name));
        if !self.model.is_empty() {
            let models: Vec<String> = self.model.iter().map(|model| text(model)).collect();
            entry += &format!("\nmodels = [{}]", models.join(", "));
        }
        if global.json {
            return output::json(&json!({"token": token, "entry": entry}));
        }
        output::line(format!("{token}\n"))?;
        output::line(
            "This is shown once. The daemon keeps its hash alone, in the file that auth_file names:\n",
        )?;
        output::line(entry)
    }
}
