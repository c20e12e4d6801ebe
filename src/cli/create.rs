//! `taxond create`

use clap::{Args, ValueEnum};

use crate::{
    cli::{
        Global,
        connection::Connection,
        failure::{Exit, Failure},
        json, names, output,
    },
    proto::v1::{CreateModelRequest, Model, Preset, WordVectors},
};

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Id of the model: 1 to 63 of a-z, 0-9, `-` and `_`, beginning with a letter or digit
    #[arg(value_parser = names::model)]
    model: String,
    /// Which network it trains
    #[arg(long, value_enum, default_value_t)]
    preset: Network,
    /// Word vectors to start from: the name of a file in the daemon's folder of vectors (`serve --vectors-dir`)
    #[arg(long, value_name = "FILE")]
    vectors: Option<String>,
    /// Leave the word vectors as they are
    #[arg(long, requires = "vectors")]
    frozen_vectors: bool,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Network {
    /// Words and character n-grams, a bidirectional LSTM of 128: fast and accurate
    #[default]
    Default,
    /// The classic: words, one LSTM of 1000: slow
    Seed,
}

impl Create {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let preset = match self.preset {
            Network::Default => Preset::Default,
            Network::Seed => Preset::Seed,
        };
        let frozen = self.frozen_vectors;
        let vectors = self.vectors.map(|file| WordVectors { file, frozen });
        let model = create(&connection, &self.model, preset, vectors).await?;
        if global.json {
            return output::json(&json::model(&model));
        }
        let name = names::short(&model.name);
        output::line(format!("{name} is there; add examples with `taxond examples add {name} FILE`"))
    }
}

/// Makes a model.
pub(super) async fn create(
    connection: &Connection,
    model: &str,
    preset: Preset,
    word_vectors: Option<WordVectors>,
) -> Result<Model, Failure> {
    let request = CreateModelRequest {
        model_id: names::short(model).to_owned(),
        preset: preset.into(),
        request_id: String::new(),
        word_vectors,
    };
    let response = connection.registry().create_model(connection.request(request)).await?.into_inner();
    response.model.ok_or_else(|| Failure::new(Exit::Failed, "the daemon answered without the model"))
}
