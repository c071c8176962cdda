//! Catches the mail of an environment. It runs in a container of it, and knows nothing but its arguments.

use crate::{cli::MailCatcherArgs, exit::Failure};
use mail::{Bounds, Catcher, Settings};
use std::process::ExitCode;

pub(crate) fn run(args: MailCatcherArgs) -> Result<ExitCode, Failure> {
    let settings = Settings {
        smtp: args.smtp,
        page: args.page,
        directory: args.directory,
        bounds: Bounds::default(),
    };
    super::block_on(async move {
        let catcher = Catcher::open(&settings).await.map_err(|error| Failure::of(&error))?;
        catcher.run().await;
        Ok(ExitCode::SUCCESS)
    })?
}
