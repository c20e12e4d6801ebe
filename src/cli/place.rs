//! `taxond move`

use clap::Args;

use crate::{
    cli::{
        Global,
        change::{self, ChangeOptions},
        connection::Connection,
        failure::Failure,
        names,
    },
    proto::v1::MoveClassRequest,
};

#[derive(Debug, Args)]
pub(super) struct Move {
    /// The model
    #[arg(value_parser = names::model)]
    model: String,
    /// The class, by name or by `#` and id; a group takes all below it along
    class: String,
    /// The group it shall be in
    #[arg(long, value_name = "GROUP", required_unless_present = "top")]
    under: Option<String>,
    /// Make that group if there is none of the name
    #[arg(long, conflicts_with = "top")]
    create: bool,
    /// Move it to the top, out of any group
    #[arg(long, conflicts_with = "under")]
    top: bool,
    #[command(flatten)]
    options: ChangeOptions,
}

impl Move {
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let connection = Connection::open(global).await?;
        let request = MoveClassRequest {
            model: self.model.clone(),
            class_name: self.class,
            parent: self.under.unwrap_or_default(),
            request_id: String::new(),
            create_parent: self.create,
            validate_only: self.options.dry_run,
            expected_revision: self.options.expected_revision,
            reason: self.options.reason,
        };
        let answer = connection.taxonomy().move_class(connection.request(request)).await?.into_inner();
        let manifest = answer.manifest.unwrap_or_default();
        change::renamed(&self.model, &manifest, answer.version.as_ref(), &answer.job, global.json)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        moved: Move,
    }

    #[test]
    fn the_place_must_be_said() {
        assert!(Line::try_parse_from(["move", "bank", "card"]).is_err());
        assert!(Line::try_parse_from(["move", "bank", "card", "--top", "--under", "cards"]).is_err());
        assert!(Line::try_parse_from(["move", "bank", "card", "--top", "--create"]).is_err());
        assert!(Line::try_parse_from(["move", "bank", "card", "--top"]).is_ok());
        assert!(Line::try_parse_from(["move", "bank", "card", "--under", "cards", "--create"]).is_ok());
    }
}
